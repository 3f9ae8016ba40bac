"""The compiled int8 kernels and the engine that uses them."""
