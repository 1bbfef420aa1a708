"""What can be cut in attention: whole heads, and query and key columns inside each."""
