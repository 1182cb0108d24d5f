"""OpenAI's API: `/v1/models`, `/v1/completions`, `/v1/chat/completions`, for clients that speak it.

Reading order: `fields` (what both bodies share), `default_strategy` (what a body without a
`strategy` means), `chat_bodies` and `completion_bodies` (asked), `answers` (answered), `logprobs`
and `presentation` (from the one to the other), `streaming`, `errors` (the envelope under `/v1`),
`routes`. Strategies, generation and text are those of `/generate`.
"""
