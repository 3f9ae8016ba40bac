"""Evaluation of a language identifier: metrics and report."""
