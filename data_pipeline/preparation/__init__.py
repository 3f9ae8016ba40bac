"""Preparation: clean bitext becomes a vocabulary, token shards and a manifest for training."""
