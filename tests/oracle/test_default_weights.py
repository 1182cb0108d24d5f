"""What a CPU's default weights cost in quality, on the graph that serves and on its plain twin.

The text has been seen by no calibration.
"""

import pytest

from engine.config import EngineConfig
from engine.native_library import build_native_library
from engine.native_runner import BLOCK_TOKENS, NativeRunner
from engine.plan import Plan, PlannedRow
from engine.sequence import Sequence
from optimize.onnx_calibration import read_evaluation_text
from optimize.onnx_prepare import prepare_onnx
from optimize.onnx_steps import OnnxSteps
from optimize.quality import measure_quality
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme
from tests.engine.exports import decoder_shape

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]
CONFIG = EngineConfig(max_rows=16, block_size=BLOCK_TOKENS)


class NativeSteps:
    """The native runner as a model to be measured."""

    def __init__(self, prepared, library):
        self.vocab_size = prepared.manifest.vocab_size
        self.context_length = prepared.context_length
        shape = decoder_shape(prepared.manifest)
        graph = prepared.native_graph
        self.runner = NativeRunner.load(graph, library, shape, CONFIG, vocab_size=self.vocab_size)

    def start(self, num_rows, _max_length):
        self.rows = [Sequence(id=number, prompt_ids=()) for number in range(num_rows)]
        for row in self.rows:
            self.runner.cache.match_prefix(row.id, (), "")

    def read(self, token_ids):
        planned = []
        for row, new in zip(self.rows, token_ids.tolist(), strict=True):
            start = row.num_tokens
            row.generated_ids += new
            assert self.runner.cache.reserve(row.id, start, row.num_tokens)
            planned.append(PlannedRow(row, start, row.num_tokens, num_logits=1))
        plan = Plan(rows=tuple(planned), stepping=())
        return self.runner.forward(plan).values.numpy().copy()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    spec = ModelSpec(device="cpu", cache_folder=tmp_path_factory.mktemp("cache"))
    return {scheme: prepare_onnx(spec, scheme) for scheme in (WeightScheme.FP32, WeightScheme.W8A8)}


@pytest.mark.parametrize("is_native", [True, False], ids=["our operators", "the runtime's own"])
def test_perplexity_is_within_one_percent_of_the_original(prepared, tmp_path, is_native):
    original = OnnxSteps(prepared[WeightScheme.FP32].folder, num_threads=0)
    default = prepared[WeightScheme.W8A8]
    if is_native:
        candidate = NativeSteps(default, build_native_library(tmp_path))
    else:
        candidate = OnnxSteps(default.folder, num_threads=0)
    token_ids = default.tokenizer.encode(read_evaluation_text())
    quality = measure_quality(original, candidate, token_ids, lambda _part: None)
    assert quality.num_tokens > 2000
    assert quality.perplexity <= 1.01 * quality.reference_perplexity
    assert quality.divergence <= 0.02
