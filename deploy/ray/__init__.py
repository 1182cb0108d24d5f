"""The service as an application of Ray Serve; `README.md` says how to run it.

A request comes to a `Front` (`front.py`), which reads it and finds out what it begins like
(`affinity.py`). Ray chooses a replica with `router.py`, and the replica (`replica.py`) has the
very application of `beamline serve` answer it over `exchange.py`. What dies before the first byte
of an answer is asked again elsewhere.

* `application.py`: what Ray imports, with its `arguments.py`.
* `call.py`: a request on its way from front to replica.
* `delivery.py`: its response, as far as it is sent.
* `scaling.py`: how many replicas there should be.
* `fleet.py`: the front in a process of Ray's; all that it knows of Ray.
* `fleet_metrics.py`: the metrics of all replicas as one page.
* `local.py`: a cluster of one machine, for tests and a first look.

Needs `pip install 'beamline[ray]'`. `app` knows nothing of it.
"""
