"""Filters: they add score columns to each block and give every rejected line a reason."""
