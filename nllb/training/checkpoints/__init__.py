"""Checkpoints of a run, and their export to a model directory."""
