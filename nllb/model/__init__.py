"""Model configuration, modules, checkpoint formats and tokenization (see README.md)."""
