"""HTTP endpoints, one router a file: they decode, call a part of `app` and encode; no logic."""
