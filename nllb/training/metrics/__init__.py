"""Records of a training run and the places that they are written to."""
