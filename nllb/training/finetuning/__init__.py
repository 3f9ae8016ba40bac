"""Fine-tuning a model on text files, with new languages and characters."""
