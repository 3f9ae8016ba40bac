"""Cleaning: Unicode normalization and the removal of markup, entities and control characters."""
