"""From token shards to micro-batches: sampling, gathering, noise, concatenation, collation."""
