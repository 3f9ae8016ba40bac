"""Training of one model in several processes: ranks, data parallelism, expert parallelism."""
