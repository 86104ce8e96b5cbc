"""Data sets that more than one plugin needs."""
