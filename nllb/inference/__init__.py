"""Token-level inference: engines, kernels, search, batching, shortlists, memory plans."""
