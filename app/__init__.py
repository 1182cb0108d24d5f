"""The service: text and HTTP. Knows strings and JSON; the engine below knows only token ids.

A reading order for `POST /generate`: `routes/generate.py` (HTTP in and out), `request_models.py`
(the body of each strategy), `answers.py` (one request or a list of them), `generation.py` (the
life of one request), `preparation.py` (text to token ids), `flight.py` (one run of the engine and
all who wait for it), `sequence_text.py` (token ids to text), `errors.py` (failures to statuses).
`lifespan.py` builds the parts; `server.py` and `cli.py` run them as a process.
"""
