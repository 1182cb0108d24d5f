"""What Prometheus and Grafana need to watch the service; docs/runbooks.md is for operators.

* `rules/`: recording rules and alerts, with their unit tests (`promtool test rules`)
* `grafana/`: the dashboard, what writes it, and how Grafana finds it

`prometheus.yml`, at the top of the tree, has them read. tests/monitoring/ runs all of it.
"""
