"""Several processes that train one model: ranks, data parallelism, expert parallelism."""
