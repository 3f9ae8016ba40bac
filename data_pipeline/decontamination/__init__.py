"""Decontamination: evaluation sentences are removed from all training text."""
