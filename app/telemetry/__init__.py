"""What is told of requests outside of their answers: log lines and traces.

`record.py` holds what becomes known of a request, `journal.py` writes a line of it, `tracing.py`
sends spans. `app/http/middleware.py` opens and closes records, `app/generation/` fills them.
"""
