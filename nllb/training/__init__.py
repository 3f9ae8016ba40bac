"""Training of translation models from token shards; the only package that imports fairseq2."""
