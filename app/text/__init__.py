"""Text to token ids and back: the tokenizer made safe for threads, and text that grows by tokens.

`request` is a request as the inside of `app` knows it; `codec` wraps the tokenizer; `chat_template`
renders conversations, their `tools` included (`plain_turns`: in plain words); `detokenizer`,
`stop_strings` and `sequence_text` turn a sequence's tokens into its text; `executor` is the
bounded thread pool that tokenising runs in. Knows nothing of HTTP or of the engine's requests.
"""
