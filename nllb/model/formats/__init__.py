"""Checkpoint formats: Hugging Face and fairseq, read and written."""
