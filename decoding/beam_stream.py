"""What a search may send while it runs: the beginning that all sequences able to win agree on.

Used by the decoders of the beam strategies. Tokens once sent are never taken back, so with
several sequences asked for, whose order is open until the end, nothing is sent before it.
"""

from collections.abc import Iterable, Sequence

from decoding.base import Decision, Emission, Hypothesis
from decoding.beam_search import Extension
from decoding.considered import Verdict


class BeamStream:
    """Remembers how much was sent. Its decoder is the only one to write to it."""

    def __init__(self, *, num_results: int) -> None:
        self._num_results = num_results
        self._num_sent = 0

    def decision(
        self,
        live: Sequence[Extension],
        finished: Sequence[Hypothesis],
        verdicts: Iterable[Verdict],
    ) -> Decision:
        """What a step of the search says: go on with `live`, or end with the best of `finished`."""
        if not live:
            return self.end(finished, verdicts)
        return Decision(
            live=tuple(extension.continuation(index) for index, extension in enumerate(live)),
            emissions=self._agreed(live, finished),
            verdicts=tuple(verdicts),
        )

    def end(self, ranked: Sequence[Hypothesis], verdicts: Iterable[Verdict] = ()) -> Decision:
        """The end: the best of the finished sequences, and what was not sent of them yet."""
        results = tuple(ranked[: self._num_results])
        emissions = []
        for index, result in enumerate(results):
            first = self._num_sent if index == 0 else 0
            emissions.append(
                Emission(
                    index=index,
                    token_ids=result.token_ids[first:],
                    logprobs=result.logprobs[first:],
                )
            )
        return Decision(emissions=tuple(emissions), results=results, verdicts=tuple(verdicts))

    def _agreed(
        self, live: Sequence[Extension], finished: Sequence[Hypothesis]
    ) -> tuple[Emission, ...]:
        """Tokens that every sequence still able to win starts with, not sent before."""
        if self._num_results > 1:
            return ()
        candidates = [extension.generated_ids for extension in live]
        candidates += [hypothesis.token_ids for hypothesis in finished]
        first, end = self._num_sent, _common_prefix_length(candidates)
        new = live[0].generated_ids[first:end]
        if not new:
            return ()
        self._num_sent = end
        return (Emission(index=0, token_ids=new, logprobs=live[0].logprobs[first:end]),)


def _common_prefix_length(sequences: Sequence[tuple[int, ...]]) -> int:
    first, last = min(sequences), max(sequences)
    for position, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return position
    return min(len(first), len(last))
