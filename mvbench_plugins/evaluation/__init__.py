"""Metrics that the stock toolboxes lack."""
