"""The rows of the dashboard in their order, and what marks all panels. Made of `rows/`."""

from monitoring.grafana.queries import series
from monitoring.grafana.rows.caches import CACHES
from monitoring.grafana.rows.engine import ENGINE, SCALING
from monitoring.grafana.rows.errors import ERRORS
from monitoring.grafana.rows.latency import LATENCY
from monitoring.grafana.rows.overview import NOW
from monitoring.grafana.rows.process import PROCESS
from monitoring.grafana.rows.traffic import KEYS, STRATEGIES, TRAFFIC

ROWS = (NOW, TRAFFIC, LATENCY, SCALING, ENGINE, CACHES, STRATEGIES, ERRORS, KEYS, PROCESS)
RESTARTS = f"changes({series('process_start_time_seconds')}[$__rate_interval]) > 0"
