"""From a request for text to its answer: everything between the routes and the engine.

Reading order: `generator` (the life of a request), `preparation` (checks and token ids) with
`model_fit`, `prepared_request` and `cache_key`, `flights` (who answers), `flight` (one generation),
`subscription` (one who waits for it), `completion`, `cache`, `event_router` (the engine's events),
then `presentation` with `trace_presentation` and `answers` (bodies), and `jobs` (answers
fetched later).
"""
