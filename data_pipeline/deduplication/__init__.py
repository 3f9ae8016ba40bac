"""Deduplication by hashes of normalized text, in bounded memory."""
