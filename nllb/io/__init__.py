"""Text and compressed files, corpora, benchmarks, token shards and the self-contained HTML page."""
