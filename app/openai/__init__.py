"""OpenAI's API: models, completions, chats and responses, for clients that speak it.

Reading order: `fields` (what both bodies share), `default_strategy` (what a body without a
`strategy` means), `chat_bodies` and `completion_bodies` (asked), `answers` (answered), `logprobs`
and `presentation` (from the one to the other), `streaming`, `errors` (the envelope under `/v1`),
`routes`. `tool_bodies`, `chat_messages` and `calls` are about calls of functions, the modules that
begin with `response_` are `/v1/responses`. Strategies and texts are those of `/generate`.
"""
