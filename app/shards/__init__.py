"""A model spread over processes, for `--tensor-parallel-size`: who starts, watches and ends them.

`loading` is the serving process's side and `member` the others' program; `processes` watches them,
and `orders` is what they are told until the model is open. Steps are `engine.shard_runner`'s.
"""
