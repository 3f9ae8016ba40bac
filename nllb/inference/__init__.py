"""Inference on tokens: engines, kernels, search, batching, shortlists and memory planning."""
