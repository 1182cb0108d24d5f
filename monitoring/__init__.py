"""What Prometheus and Grafana need to watch the service; docs/monitoring.md is for operators.

* `rules/`: recording rules and alerts, with their unit tests (`promtool test rules`)
* `grafana/`: the dashboard, what writes it, and how Grafana finds it
* `chart.py`: draws the dashboard's queries from a Prometheus, where there is no Grafana

`prometheus.yml`, at the top of the tree, has them read. tests/monitoring/ runs all of it.
"""
