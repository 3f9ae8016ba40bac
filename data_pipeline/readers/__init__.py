"""Readers: every corpus format is read into one Parquet form, without changes or losses."""
