"""The steps from token shards to micro-batches: sampling, gathering, noise, joining, collation."""
