"""Who may ask for what, and how much of it.

* `scopes`: what a path needs
* `keys`, `key_file`, `key_store`: API keys, where they are kept, and how changes are noticed
* `counters`, `limiter`, `meter`: what a key has used of its minute, here or in Redis
* `command`: `beamline keys`

`app/http/authentication.py` stands at the door with them. Nothing here knows a route.
"""
