"""Decontamination removes evaluation sentences from all training text."""
