"""Runs ONNX Runtime's own quantiser on a decoder graph. Used by `onnx_dynamic` and `onnx_static`.

The quantiser goes from file to file, and wants to know the types of values that ONNX's inference
does not see behind other operators, and that the graph was prepared.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from optimize.onnx_graph import OnnxGraph
from optimize.onnx_manifest import GRAPH_FILE

MATRICES = ["MatMul"]  # what is to be quantised
_IS_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


def quantize_through_files(
    graph: OnnxGraph, scratch: Path, quantize: Callable[[Path, Path], None]
) -> OnnxGraph:
    """The graph that `quantize`, given two paths, writes to the second for that in the first.

    Args:
        graph: a float decoder.
        scratch: a folder for files, which the result goes on using.
        quantize: the quantiser with its options.
    """
    source, target = (Path(scratch, f"quantizer-{name}") for name in ("from", "to"))
    source.mkdir()
    target.mkdir()
    graph.save(source)
    _prepare(source / GRAPH_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize(source / GRAPH_FILE, target / GRAPH_FILE)
    return OnnxGraph.load(target)


def _prepare(file: Path) -> None:
    model = onnx.load(file, load_external_data=False)
    values = {name: None for node in model.graph.node if node.op_type in MATRICES
              for name in (node.input[0], node.output[0])}  # fmt: skip
    model.graph.value_info.extend(
        helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in values
    )
    helper.set_model_props(model, _IS_PREPARED)
    onnx.save(model, file)
