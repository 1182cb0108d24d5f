"""The row on memory, cores and restarts of each replica, and the model that it serves."""

from monitoring.grafana.panel import Panel, Row
from monitoring.grafana.queries import rate, series, total

PROCESS = Row(
    "Process",
    (
        Panel(
            "Main memory",
            "bytes",
            "Resident, of each process.",
            {"{{instance}}": total("process_resident_memory_bytes", "instance")},
        ),
        Panel(
            "GPU memory",
            "bytes",
            "Allocated on the accelerator; 0 on a CPU.",
            {"{{instance}}": total("gpu_memory_usage_bytes", "instance")},
        ),
        Panel(
            "Cores in use",
            "none",
            "Processor seconds a second.",
            {"{{instance}}": rate("process_cpu_seconds_total", "instance")},
        ),
        Panel(
            "Open requests",
            "none",
            "HTTP requests that are being answered.",
            {"{{instance}}": total("api_requests_in_flight", "instance")},
        ),
        Panel(
            "Uptime",
            "s",
            "Falls to zero with each restart; the marks on all panels are the same moments.",
            {"{{instance}}": f"time() - {total('process_start_time_seconds', 'instance')}"},
        ),
        Panel(
            "Model",
            "none",
            "What each replica serves, and on what.",
            {"{{name}} {{runtime}} {{device}} {{dtype}} {{weights}}": series("model_info")},
        ),
    ),
)
