"""Runs exported folders on one text, and reads matrices back out of quantised graphs."""

from pathlib import Path

import numpy as np
import torch
from onnx import NodeProto, helper
from transformers import AutoModelForCausalLM

from optimize.onnx_graph import OnnxGraph
from optimize.onnx_manifest import read_manifest
from optimize.onnx_session import Chunk, RowSession, open_session

BLOCK = 32


def model_logits(folder: Path, token_ids: list[int]) -> np.ndarray:
    """Logits [vocab] of transformers after the tokens."""
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return module(torch.tensor([token_ids])).logits[0, -1].numpy()


def export_logits(folder: Path, token_ids: list[int]) -> np.ndarray:
    """Logits [vocab] of an exported folder after the tokens."""
    length = len(token_ids)
    rows = RowSession(open_session(folder, num_threads=1), read_manifest(folder), rows=1,
                      max_length=length)  # fmt: skip
    ids = np.array([token_ids], np.int64)
    return rows.forward(Chunk(first_row=0, token_ids=ids, lengths=[length]))[0][0, -1]


def step_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """Logits [steps, rows, vocab] when all rows of `tokens` [rows, steps] go on step by step."""
    num_rows, num_steps = tokens.shape
    rows = RowSession(open_session(folder, num_threads=1), read_manifest(folder), rows=num_rows,
                      max_length=num_steps)  # fmt: skip
    steps = [
        Chunk(first_row=0, token_ids=tokens[:, at : at + 1], lengths=[at + 1] * num_rows)
        for at in range(num_steps)
    ]
    return np.stack([rows.forward(chunk)[0][:, -1] for chunk in steps])


def blockwise_matrices(folder: Path) -> dict[str, tuple[np.ndarray, int]]:
    """The matrices [inputs, outputs] of a blockwise graph as it uses them, and their bits."""
    graph = OnnxGraph.load(folder)
    nodes = [node for node in graph.nodes if node.op_type == "MatMulNBits"]
    return {_name(node): _dequantized(graph, node) for node in nodes}


def _name(node: NodeProto) -> str:
    return node.input[1].removesuffix("/levels")


def _dequantized(graph: OnnxGraph, node: NodeProto) -> tuple[np.ndarray, int]:
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    bits, num_inputs, num_outputs = settings["bits"], settings["K"], settings["N"]
    num_blocks = -(-num_inputs // BLOCK)
    levels = _unpacked(graph.weight(node.input[1]).reshape(num_outputs, num_blocks, -1), bits)
    scales = graph.weight(node.input[2]).reshape(num_outputs, num_blocks, 1)
    zeros = _unpacked(graph.weight(node.input[3]).reshape(num_outputs, -1), bits)[:, :num_blocks]
    values = scales * (levels.astype(np.float32) - zeros.astype(np.float32)[..., None])
    offsets = f"{_name(node)}/offsets"
    if graph.is_weight(offsets):
        values = values + graph.weight(offsets).T[..., None]
    return values.reshape(num_outputs, -1)[:, :num_inputs].T, bits


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return packed
    halves = np.stack([packed & 15, packed >> 4], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1)
