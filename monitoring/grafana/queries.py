"""PromQL as the panels need it, each for the chosen job and instances. Text only."""

CHOSEN = 'job="$job",instance=~"$instance"'
WINDOW = "$__rate_interval"
QUIET = 'endpoint!~"/health|/livez|/readyz|/startupz|/metrics"'  # not what watchers ask
FIRST_TOKEN, BETWEEN = "time_to_first_token_seconds", "inter_token_latency_seconds"


def series(name: str, where: str = "") -> str:
    """The metric `name` of the chosen instances, with more label matchers if wanted."""
    matchers = f"{CHOSEN},{where}" if where else CHOSEN
    return f"{name}{{{matchers}}}"


def total(name: str, by: str = "", where: str = "") -> str:
    """A gauge summed over instances, or by labels."""
    return f"sum{_by(by)}({series(name, where)})"


def rate(name: str, by: str = "", where: str = "") -> str:
    """A counter's growth a second, summed over instances, or by labels."""
    return f"sum{_by(by)}(rate({series(name, where)}[{WINDOW}]))"


def quantile(q: float, name: str, by: str = "") -> str:
    """Below it lies the share `q` of what the histogram `name` saw lately."""
    labels = f"le,{by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{name}_bucket', labels)})"


def mean(name: str, by: str = "") -> str:
    """The mean of what the histogram `name` saw lately."""
    return f"{rate(f'{name}_sum', by)} / {rate(f'{name}_count', by)}"


def share(part: str, *others: str) -> str:
    """Of counters the first one's part in the growth of all."""
    whole = " + ".join(rate(name) for name in (part, *others))
    return f"{rate(part)} / ({whole})"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
