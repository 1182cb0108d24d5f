"""Programs that use clients of other projects; each runs with a Python that has its client."""
