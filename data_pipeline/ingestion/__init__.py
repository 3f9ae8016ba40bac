"""Raw corpora in, one Parquet form out; nothing is changed, nothing shifted, nothing lost."""

from data_pipeline.ingestion.sources import Source, find_sources
from data_pipeline.ingestion.writing import ingest, ingested_blocks

__all__ = ["Source", "find_sources", "ingest", "ingested_blocks"]
