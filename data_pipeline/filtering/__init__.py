"""Filters: each block gets score columns, and every rejected line gets a reason."""
