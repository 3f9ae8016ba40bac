"""Readers of ratings files: one module per family of forms, each returning raw tables."""
