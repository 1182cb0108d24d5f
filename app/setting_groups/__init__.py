"""What can be set, topic by topic; `app/settings.py` joins all of it in one frozen `Settings`.

* `model`: which model, in what form, on what device.
* `draft_model`: a second one that guesses ahead.
* `server`: where to listen, TLS, logs, traces and metrics.
* `access`: keys, and what each may use in a minute.
* `requests`: the most that one request may ask for.
* `engine`: the size of a step, of the queue and of the KV cache; time limits and urgency.
* `answers`: what is kept of them, and the text threads.
* `kinds`: the types that several groups use.

A group's fields stand in the order in which `beamline serve --help` lists them. What concerns one
group is checked in it; what concerns two is checked in `app/settings.py`.
"""
