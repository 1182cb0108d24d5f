"""Each attention layer of a graph has the window that the configuration states for it."""

import pytest
from onnx import ModelProto, helper
from transformers import Gemma2Config, GemmaConfig, LlamaConfig, MistralConfig, Qwen2Config

from optimize.errors import OnnxUnsupported
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_manifest import GRAPH_FILE
from optimize.onnx_structure import attention_nodes
from optimize.onnx_windows import set_windows, smallest_window
from tests.oracle.architectures import build_config
from tests.oracle.exam import served
from tests.oracle.onnx_architectures import EXPORTED

NUM_LAYERS = 3


@pytest.fixture
def graph(tmp_path):
    """Three layers of attention with nothing between them, the first with a wrong window."""
    nodes = [
        helper.make_node(
            "GroupQueryAttention",
            [f"value{layer}"],
            [f"value{layer + 1}"],
            num_heads=4,
            **({"local_window_size": 99} if layer == 0 else {}),
        )
        for layer in range(NUM_LAYERS)
    ]
    model = ModelProto(graph=helper.make_graph(nodes, "windows", [], []))
    (tmp_path / GRAPH_FILE).write_bytes(model.SerializeToString())
    return OnnxGraph.load(tmp_path)


def windows_of(graph):
    return [
        {a.name: helper.get_attribute_value(a) for a in node.attribute}["local_window_size"]
        for node in attention_nodes(graph)
    ]


@pytest.mark.parametrize(
    ("config", "windows", "smallest"),
    [
        (LlamaConfig(num_hidden_layers=3), [-1, -1, -1], None),
        (MistralConfig(num_hidden_layers=3, sliding_window=7), [7, 7, 7], 7),
        (MistralConfig(num_hidden_layers=3, sliding_window=None), [-1, -1, -1], None),
        (
            Qwen2Config(
                num_hidden_layers=3, sliding_window=7, max_window_layers=1, use_sliding_window=True
            ),
            [-1, 7, 7],
            7,
        ),
        (
            Qwen2Config(
                num_hidden_layers=3, sliding_window=7, max_window_layers=1, use_sliding_window=False
            ),
            [-1, -1, -1],
            None,
        ),
        (Gemma2Config(num_hidden_layers=3, sliding_window=4096), [4096, -1, 4096], 4096),
        (GemmaConfig(num_hidden_layers=3), [-1, -1, -1], None),
    ],
    ids=["llama", "mistral", "mistral off", "qwen 2", "qwen 2 off", "gemma 2", "gemma"],
)
def test_layers_get_the_windows_that_their_configuration_states(graph, config, windows, smallest):
    set_windows(graph, config)
    assert windows_of(graph) == windows
    assert smallest_window(config) == smallest


def test_a_kind_of_attention_that_the_graph_does_not_have_is_refused(graph):
    config = Gemma2Config(num_hidden_layers=3, layer_types=["full_attention"] * 3)
    config.layer_types = ["full_attention", "chunked_attention", "full_attention"]
    with pytest.raises(OnnxUnsupported, match=r"chunked_attention.*Serve the model with torch"):
        set_windows(graph, config)


def test_windows_of_the_suite_are_crossed_by_its_prompts():
    """Else the comparison with transformers would show nothing."""
    windows = {one.name: smallest_window(build_config(one)) for one in EXPORTED}
    assert {name for name, window in windows.items() if window} == {
        one.name for one in served("mistral-window", "qwen2-window", "gemma-2")
    }
    assert max(window or 0 for window in windows.values()) < 20
