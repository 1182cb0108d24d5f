"""States the sliding windows of attention in a decoder graph. Called by `onnx_export`.

The builder leaves them out for some architectures, which shows only in texts longer than the
window; the model's own configuration says what they are.
"""

from collections.abc import Sequence

from onnx import NodeProto, helper
from transformers import PreTrainedConfig

from optimize.errors import OnnxUnsupported
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_structure import attention_nodes

_ATTRIBUTE = "local_window_size"
_NO_WINDOW = -1
_SLIDING, _FULL = "sliding_attention", "full_attention"


def set_windows(graph: OnnxGraph, config: PreTrainedConfig) -> None:
    """Give each attention layer the window that the configuration states for it.

    Raises:
        OnnxUnsupported: a layer attends in a way that the graph cannot.
    """
    nodes = attention_nodes(graph)
    for node, window in zip(nodes, _windows(config, len(nodes)), strict=True):
        _set(node, _NO_WINDOW if window is None else window)


def smallest_window(config: PreTrainedConfig) -> int | None:
    """The window of the layers that have one, in tokens."""
    windows = _windows(config, config.num_hidden_layers)
    return min((window for window in windows if window is not None), default=None)


def _windows(config: PreTrainedConfig, num_layers: int) -> Sequence[int | None]:
    window = getattr(config, "sliding_window", None)
    is_used = bool(window) and getattr(config, "use_sliding_window", True)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return [window if is_used else None] * num_layers
    unknown = sorted({str(kind) for kind in kinds} - {_SLIDING, _FULL})
    if unknown or len(kinds) != num_layers:
        raise OnnxUnsupported(
            f"attention of the kind {', '.join(unknown) or 'unknown'} cannot be exported. "
            "Serve the model with torch."
        )
    return [window if kind == _SLIDING else None for kind in kinds]


def _set(node: NodeProto, window: int) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != _ATTRIBUTE]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(_ATTRIBUTE, window)])
