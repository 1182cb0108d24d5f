"""States the epsilon of layer normalisations in a decoder graph. Called by `onnx_export`.

The builder knows the name under which most models keep that of their root-mean-square norms, and
gives all others one of its own.
"""

from onnx import helper
from transformers import PreTrainedConfig

from optimize.onnx_graph import OnnxGraph

_NORMS = {"LayerNormalization", "SkipLayerNormalization"}
_ATTRIBUTE = "epsilon"
_NAMES = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")


def set_norm_epsilon(graph: OnnxGraph, config: PreTrainedConfig) -> None:
    """Give layer normalisations the epsilon that the configuration states, if it states one."""
    stated = next((getattr(config, name) for name in _NAMES if hasattr(config, name)), None)
    if stated is None:
        return
    for node in graph.nodes:
        if node.op_type in _NORMS:
            for attribute in node.attribute:
                if attribute.name == _ATTRIBUTE:
                    attribute.CopyFrom(helper.make_attribute(_ATTRIBUTE, float(stated)))
