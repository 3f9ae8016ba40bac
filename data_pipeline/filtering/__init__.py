"""Filters add score columns to each block and give a reason for every rejected line."""
