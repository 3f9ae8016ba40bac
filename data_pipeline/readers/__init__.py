"""Readers: they read every corpus format into one Parquet form, without changing the text."""
