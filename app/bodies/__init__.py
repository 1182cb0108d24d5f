"""The JSON bodies: Pydantic at the wire, and nowhere else.

`request_models` makes one request body for each strategy out of its own fields, `request_fields`
and `adjustment_fields` hold the fields they share, `request_errors` explains what is wrong with a
body; `schemas` holds the bodies that are answered, and `trace_bodies` how a decode is shown.
"""
