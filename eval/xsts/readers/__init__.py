"""Readers of ratings files: one module per family of formats; each returns raw tables."""
