"""Preparation: it turns clean bitext into a vocabulary, token shards and a training manifest."""
