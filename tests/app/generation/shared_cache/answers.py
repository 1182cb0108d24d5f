"""Keys and answers to store, from the plainest to any that there can be."""

from hypothesis import strategies as st

from app.generation.cache_key import CacheKey, ModelIdentity
from app.generation.completion import Completed, FinishedText
from decoding.base import FinishReason, TokenScore
from decoding.considered import Outcome
from engine.messages import Timings
from engine.trace import Trace, TracedCandidate, TraceNode

MODEL = ModelIdentity(name="tiny", revision="1", runtime="torch")


def key(number=1, **changed):
    fields = {
        "model": MODEL,
        "prompt_ids": (number, 2, 3),
        "strategy": "greedy",
        "parameters": (("num_return_sequences", "1"),),
        "max_new_tokens": 5,
        "stop": (),
        "keeps_stop": False,
        "adjustments": (),
        "grammar": None,
        "guidance": None,
        "top_logprobs": 0,
        "prompt_logprobs": None,
        "trace": None,
        "seed": None,
        "tenant": None,
    }
    return CacheKey(**fields | changed)


def answer(text="some text", num_tokens=3):
    sequence = FinishedText(
        text=text,
        token_ids=tuple(range(1000, 1000 + num_tokens)),
        logprobs=tuple(-0.1 * index for index in range(num_tokens)),
        finish_reason=FinishReason.LENGTH,
        score=None,
    )
    timings = Timings(
        queue_seconds=0.1,
        prefill_seconds=0.2,
        decode_seconds=0.3,
        num_cached_tokens=0,
        num_preemptions=0,
    )
    return Completed(sequences=(sequence,), seed=0, timings=timings)


def _tuples(values, max_size=5):
    return st.lists(values, max_size=max_size).map(tuple)


_ids = st.integers(0, 2**31)
_floats = st.floats(allow_nan=False)  # infinities included; nan is not equal to itself
_alternatives = _tuples(st.tuples(_ids, _floats))
_sequences = st.builds(
    FinishedText,
    text=st.text(),
    token_ids=_tuples(_ids),
    logprobs=_tuples(_floats),
    finish_reason=st.sampled_from(FinishReason),
    score=st.none() | _floats,
    alternatives=_tuples(_alternatives, 3),
)
_candidates = st.builds(
    TracedCandidate,
    token_id=_ids,
    logprob=_floats,
    processed_logprob=_floats,
    outcome=st.sampled_from(Outcome),
    score=st.none() | _floats,
)
_nodes = st.builds(
    TraceNode,
    id=_ids,
    parent=st.none() | _ids,
    index=_ids,
    token_id=st.none() | _ids,
    logprob=st.none() | _floats,
    processed_logprob=st.none() | _floats,
    score=st.none() | _floats,
    final_score=st.none() | _floats,
    finish_reason=st.none() | st.sampled_from(FinishReason),
    candidates=_tuples(_candidates, 2),
)
_traces = st.builds(
    Trace, steps=_tuples(_tuples(_nodes, 2), 3), ends=_tuples(_ids), is_truncated=st.booleans()
)
any_answer = st.builds(
    Completed,
    sequences=_tuples(_sequences, 3),
    seed=st.integers(0, 2**64 - 1),
    timings=st.builds(
        Timings,
        queue_seconds=_floats,
        prefill_seconds=_floats,
        decode_seconds=_floats,
        num_cached_tokens=_ids,
        num_preemptions=_ids,
    ),
    prompt_scores=_tuples(
        st.builds(TokenScore, token_id=_ids, logprob=_floats, alternatives=_alternatives), 3
    ),
    trace=st.none() | _traces,
)
