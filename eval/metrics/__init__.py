"""Metrics: chrF++, BLEU, spBLEU, neural metrics, significance and hypothesis checks."""
