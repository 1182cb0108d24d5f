"""The dashboard: `panels.py` says what it shows, `dashboard.py` writes it as Grafana's JSON.

`provisioning/` tells Grafana where Prometheus is and where dashboards lie. README.md has more.
"""
