"""Deduplication by XXH3 hashes of normalized text, with bounded memory."""
