"""From a request for text to its answer: everything between the routes and the engine.

Reading order: `generator` (the life of a request), `preparation` (checks and token ids), `flight`
(one generation and all who wait for it), `completion`, `cache`, `event_router` (the engine's
events), then `presentation` with `trace_presentation` and `answers` (bodies), and `jobs` (answers
fetched later).
"""
