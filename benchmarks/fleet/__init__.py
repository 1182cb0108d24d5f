"""How many replicas a load needs, and how long requests then wait: a simulation, and its check.

    python -m benchmarks.fleet measure --json costs.json       # what a step costs on this machine
    python -m benchmarks.fleet predict --costs costs.json --rate 100 --target-p95 0.5
    python -m benchmarks.fleet check                           # two real replicas beside it

* `costs.py`: what a step of the batch takes, by the sequences and prompt tokens in it.
* `workload.py`: requests at random moments, with lengths and beginnings that they share.
* `simulation.py`: replicas that batch continuously, behind a `policies.py`.
* `outcome.py`: times, refusals, use and price of a run.
* `sizing.py`: the fewest replicas that keep a promise.
* `real.py`: real servers, to measure costs with and to compare with.
"""
