"""Readers and writers of checkpoint formats (Hugging Face, fairseq) and of encoder files."""
