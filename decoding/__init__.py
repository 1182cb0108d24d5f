"""Logits in, tokens out: every decoding strategy, and the maths they share.

Reading order: `params` (what a request may ask of a row), `ask` (what a decoder asks of it), `base`
(the border types), `chooser` (one step for the whole batch), `draw`, `independent`, `beam`, then
the strategies, one file each, and `registry`, which names them. `considered` and `tracing` show
what was considered on the way. `processors/` holds pure functions over rows; `adjustments` is what
any request may ask for besides, compiled by `adjuster` into `rules/`.
Imports torch and nothing of ours; never sees the model, the cache, or text.
"""
