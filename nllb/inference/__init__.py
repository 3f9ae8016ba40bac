"""Token-level inference: engines, kernels, search, batching, shortlists and memory planning."""
