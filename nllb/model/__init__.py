"""Models and checkpoints: shape, module graph, file formats, tokens (see README.md beside this)."""
