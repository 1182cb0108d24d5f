"""The service: text and HTTP. Knows strings and JSON; the engine below knows only token ids.

A reading order for `POST /generate`: `routes/generate.py` (HTTP in and out), `bodies/` (JSON as
Pydantic), `generation/` (from a request to its answer), `text/` (text to token ids and back),
`error_replies.py` (the failures of `errors.py` to statuses). `http/` surrounds the routes;
`lifespan.py` builds the parts as `settings.py` with `setting_groups/` says, `loading.py` with
`runtimes/` and `shards/` the model, `main.py` the application; `process/` runs it, and `cli.py`
with `commands/` is the command. Beside that road: `openai/` and `tgi/` are other APIs over the
same, `access/` says who may ask for how much, and `telemetry/` writes of it. `batch/`, `chat/` and
`doctor/` are behind commands.
"""
