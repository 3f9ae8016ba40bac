"""Training of translation models from token shards; no other package imports fairseq2."""
