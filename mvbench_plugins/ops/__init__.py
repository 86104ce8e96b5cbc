"""Operators: the plain PyTorch definition of each, a faster path where one exists, and one function that picks."""
