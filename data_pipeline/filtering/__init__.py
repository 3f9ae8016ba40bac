"""Filters: a block in, score columns and a reason for every rejected line out."""

from data_pipeline.filtering.running import filter_bitext, filtered_blocks
from data_pipeline.filtering.sets import FILTER_SETS, FilterSet, threshold_faults

__all__ = ["FILTER_SETS", "FilterSet", "filter_bitext", "filtered_blocks", "threshold_faults"]
