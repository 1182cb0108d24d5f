"""Scripts that run in a peer's own environment: see `worker_peer`. They import nothing of ours."""
