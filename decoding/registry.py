"""Which strategies there are: the built-in ones in one literal mapping, then entry points.

A new strategy of ours is one file and one line here. Another package adds one by declaring an
entry point in the group `beamline.strategies` whose value is a class that satisfies
`decoding.base.Strategy`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from decoding.base import Strategy
from decoding.beam import Beam
from decoding.beam_sample import BeamSample
from decoding.best_of import BestOf
from decoding.constrained_beam import ConstrainedBeam
from decoding.contrastive import Contrastive
from decoding.diverse_beam import DiverseBeam
from decoding.dola import Dola
from decoding.dynamic_temperature import DynamicTemperatureSampling
from decoding.epsilon import EpsilonSampling
from decoding.errors import InvalidStrategy
from decoding.eta import EtaSampling
from decoding.greedy import Greedy
from decoding.min_p import MinPSampling
from decoding.mirostat import Mirostat
from decoding.sample import Sample
from decoding.top_h import TopHSampling
from decoding.top_k import TopKSampling
from decoding.top_n_sigma import TopNSigmaSampling
from decoding.top_p import TopPSampling
from decoding.typical import TypicalSampling
from decoding.xtc import XtcSampling

ENTRY_POINT_GROUP = "beamline.strategies"
DEFAULT_STRATEGY = Sample.name

STRATEGIES: Mapping[str, type[Strategy]] = MappingProxyType(
    {
        "greedy": Greedy,
        "sample": Sample,
        "top_k": TopKSampling,
        "top_p": TopPSampling,
        "min_p": MinPSampling,
        "typical": TypicalSampling,
        "epsilon": EpsilonSampling,
        "eta": EtaSampling,
        "top_h": TopHSampling,
        "top_n_sigma": TopNSigmaSampling,
        "xtc": XtcSampling,
        "dynamic_temperature": DynamicTemperatureSampling,
        "mirostat": Mirostat,
        "beam": Beam,
        "beam_sample": BeamSample,
        "diverse_beam": DiverseBeam,
        "constrained_beam": ConstrainedBeam,
        "best_of": BestOf,
        "contrastive": Contrastive,
        "dola": Dola,
    }
)


def load_strategies() -> dict[str, type[Strategy]]:
    """Built-in strategies and those of installed packages, by name.

    Raises:
        InvalidStrategy: an entry point's class is not a strategy, or takes a name in use.
    """
    strategies = dict(STRATEGIES)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"entry point {entry_point.value!r}"
        try:
            strategy = entry_point.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise InvalidStrategy(f"{origin} cannot be imported: {error}") from error
        missing = [
            name
            for name in ("name", "is_deterministic", "num_rows", "num_results", "start")
            if not hasattr(strategy, name)
        ]
        if missing:
            raise InvalidStrategy(f"{origin} is not a strategy: it lacks {', '.join(missing)}")
        if not hasattr(strategy, "__dataclass_fields__"):
            raise InvalidStrategy(f"{origin} is not a dataclass, so its parameters are unknown")
        if strategy.name in strategies:
            raise InvalidStrategy(f"{origin} takes the name {strategy.name!r}, which is in use")
        strategies[strategy.name] = strategy
    return strategies
