"""A decoder graph while it is rewritten: its nodes in order, its weights read only when needed.

Used by the `onnx_*` rewrites, which take turns; `onnx_export` loads and saves. Float weights stay
in the file they came from (a memory map) until one is replaced, so a model far larger than main
memory's free half passes through. Shapes: a weight of a MatMul is [inputs, outputs].
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from optimize.onnx_manifest import GRAPH_FILE

DATA_FILE = "model.onnx.data"
MICROSOFT = "com.microsoft"
Array = NDArray[np.generic]
_ALIGNMENT = 4096  # bytes: tensors begin on pages, so the runtime can map them
_INLINE_BYTES = 1024  # smaller tensors stay in the graph file


class OnnxGraph:
    """Nodes and weights of one model. Whoever rewrites it is its only user at that time."""

    def __init__(self, model: ModelProto, folder: Path) -> None:
        self._model = model
        self._folder = folder
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._arrays: dict[str, Array] = {}
        self.nodes: list[NodeProto] = list(model.graph.node)

    @classmethod
    def load(cls, folder: Path) -> "OnnxGraph":
        """The graph in `folder`; its weights are not read yet."""
        return cls(onnx.load(folder / GRAPH_FILE, load_external_data=False), folder)

    def producer(self, name: str) -> NodeProto | None:
        """The node that computes a value; None for an input or a weight."""
        return next((node for node in self.nodes if name in node.output), None)

    def consumers(self, name: str) -> list[NodeProto]:
        """The nodes that read a value."""
        return [node for node in self.nodes if name in node.input]

    def is_weight(self, name: str) -> bool:
        """Whether a value is stored in the model."""
        return name in self._arrays or name in self._stored

    def weight(self, name: str) -> Array:
        """A stored value; do not write into it."""
        if name in self._arrays:
            return self._arrays[name]
        return self._read(self._stored[name])

    def float_weight(self, name: str) -> NDArray[np.float32]:
        """A stored value as float32."""
        return self.weight(name).astype(np.float32, copy=False)

    def set_weight(self, name: str, array: Array) -> str:
        """Store or replace a value; its name."""
        self._arrays[name] = np.ascontiguousarray(array)
        return name

    def replace_nodes(self, replacements: Mapping[int, Iterable[NodeProto]]) -> None:
        """Put other nodes in the places of some, which are given by `id`."""
        self.nodes = [new for node in self.nodes for new in replacements.get(id(node), (node,))]

    def insert_before(self, node: NodeProto, new: Iterable[NodeProto]) -> None:
        """Put nodes right before another."""
        self.replace_nodes({id(node): [*new, node]})

    def set_output_shape(self, name: str, shape: Iterable[int | str]) -> None:
        """State the shape of an output of the model, with names for what varies."""
        outputs = self._model.graph.output
        place = [output.name for output in outputs].index(name)
        kind = outputs[place].type.tensor_type.elem_type
        outputs[place].CopyFrom(helper.make_tensor_value_info(name, kind, list(shape)))

    def add_output(self, name: str) -> None:
        """Make a float value an output of the model."""
        self._model.graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        )

    def drop_unused(self) -> None:
        """Leave out the nodes and weights that no output of the model depends on."""
        wanted = {output.name for output in self._model.graph.output}
        kept: list[NodeProto] = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        self.nodes = kept[::-1]
        stored = [t for t in self._model.graph.initializer if t.name in wanted]
        del self._model.graph.initializer[:]
        self._model.graph.initializer.extend(stored)

    def set_signature(
        self, inputs: Mapping[str, tuple[int, Iterable[int | str]]], outputs: Collection[str]
    ) -> None:
        """State all inputs, by name with type and shape, and which outputs are kept."""
        described = [helper.make_tensor_value_info(n, t, list(s)) for n, (t, s) in inputs.items()]
        kept = [output for output in self._model.graph.output if output.name in outputs]
        del self._model.graph.input[:], self._model.graph.output[:], self._model.graph.value_info[:]
        self._model.graph.input.extend(described)
        self._model.graph.output.extend(kept)

    def import_domain(self, domain: str) -> None:
        """Let nodes be of a domain that is not ONNX's own, in its first version."""
        self._model.opset_import.append(helper.make_opsetid(domain, 1))

    def save(self, folder: Path) -> None:
        """Write the graph and the weights it still uses into `folder`, one weight at a time."""
        model = ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
        model.graph.node.extend(self.nodes)
        with (folder / DATA_FILE).open("wb") as data:
            for name in self._used_weights():
                array = self.weight(name)
                if array.nbytes < _INLINE_BYTES:
                    model.graph.initializer.append(numpy_helper.from_array(array, name))
                    continue
                data.seek(-(-data.tell() // _ALIGNMENT) * _ALIGNMENT)
                model.graph.initializer.append(_external(name, array, data.tell()))
                data.write(array.tobytes() if array.dtype.byteorder == ">" else array.data)
        onnx.save(model, folder / GRAPH_FILE)

    def save_beside(self, file_name: str) -> Path:
        """Write the graph into its own folder again, under another name and over the same weights.

        For a graph that was only added to: a weight that was replaced must be small.
        """
        model = ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[:]
        model.graph.node.extend(self.nodes)
        for name, array in self._arrays.items():
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        path = self._folder / file_name
        onnx.save(model, path)
        return path

    def _used_weights(self) -> Iterable[str]:
        names = dict.fromkeys(name for node in self.nodes for name in node.input)
        return [name for name in names if self.is_weight(name)]

    def _read(self, tensor: TensorProto) -> Array:
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        place = {entry.key: entry.value for entry in tensor.external_data}
        return np.memmap(
            self._folder / place["location"],
            dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
            mode="r",
            offset=int(place.get("offset", 0)),
            shape=tuple(tensor.dims),
        )


def _external(name: str, array: Array, offset: int) -> TensorProto:
    """A tensor whose values lie in the data file."""
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", DATA_FILE), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
