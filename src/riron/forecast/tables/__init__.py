"""People's tables: reading them from any source, cleaning and encoding their columns, holding rows out."""
