"""Measured claims: each script prints its command, its machine and its numbers. See README.md."""
