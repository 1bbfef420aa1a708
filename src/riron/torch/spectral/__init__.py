"""Spectra of a network: of what its layers read, and of their weights."""
