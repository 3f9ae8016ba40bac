"""Filters: a block in, score columns and a reason for every rejected line out."""

from data_pipeline.filtering.running import filter_bitext, filtered_blocks

__all__ = ["filter_bitext", "filtered_blocks"]
