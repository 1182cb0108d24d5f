"""`beamline bench`: a load generator for servers that stream text.

`workload` says what is asked, `target` how one kind of server is asked, `client` asks once,
`arrivals` decides when, `result` holds and sums up what came back, `report` shows it, and `command`
reads the options. Other benchmarks use `run_closed_loop` directly.
"""
