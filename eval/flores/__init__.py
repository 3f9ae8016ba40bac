"""Evaluation of many directions of a line-aligned test set such as FLORES-200."""
