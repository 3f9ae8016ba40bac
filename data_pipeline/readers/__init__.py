"""Readers convert every corpus format to one Parquet form without changing the text."""
