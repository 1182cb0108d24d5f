"""Continuous batching on token ids. No HTTP, no asyncio, no metrics library, no text.

Reading order: `messages` (what crosses the border to the app), `engine` (one step, four verbs),
`request_check` (who never could run), `scheduler` (who runs, who waits, who is preempted),
`open_plan` (how much of each), `report` (what is told of it), `sequence`, `plan`, `kv_cache` and
`paged_cache` with `blocks` (whose memory), `runner` (the protocol), `torch_runner` with
`flat_batch`, `attention_switch`, `paged_attention` and `self_test`, `onnx_runner` with
`row_cache`, `row_moves` and `row_store`, and `worker` (the thread around it all). Several tokens a
step: `speculate`, `drafting`, `prompt_lookup` and `draft_model`. Beside a step: `observe` with
`observed`, and `tracer` with `trace_tree` and `trace`, for requests that want to see more than
their tokens.
Everything but the torch files is arithmetic on integers and is tested in microseconds.
"""
