"""Preparation of clean bitext for training: vocabulary, token shards and manifest."""
