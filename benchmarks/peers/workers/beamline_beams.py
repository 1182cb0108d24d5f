"""Beamline's engine with beams, all requests at once. Argument: the weights, and how many beams."""

import sys
from collections.abc import Sequence

from serving import serve

from app.loading import load_model
from app.settings import Settings
from decoding.adjustments import Adjustments
from decoding.beam import Beam
from engine.messages import GenerationRequest, RequestFinished

NUM_BEAMS = int(sys.argv[2])


def main() -> None:
    """Load the default model with the weights in the first argument and answer."""
    loaded = load_model(
        Settings(weights=sys.argv[1], max_rows=16 * NUM_BEAMS), lambda _stage, _share: None
    )
    turns = iter(range(10**9))

    def answer(prompts: Sequence[str], new_tokens: int, _concurrency: int) -> tuple[int, int, str]:
        turn = next(turns)
        ids = [tuple(loaded.tokenizer(prompt)["input_ids"]) for prompt in prompts]
        for at, prompt_ids in enumerate(ids):
            loaded.engine.add(
                GenerationRequest(
                    request_id=str(at),
                    prompt_ids=prompt_ids,
                    strategy=Beam(num_beams=NUM_BEAMS),
                    max_new_tokens=new_tokens,
                    seed=0,
                    eos_token_ids=loaded.eos_token_ids,
                    adjustments=Adjustments(min_new_tokens=new_tokens),
                    cache_salt=str(turn),
                )
            )
        events = []
        while loaded.engine.has_work:
            events += loaded.engine.step()
        answers = {e.request_id: e.sequences[0] for e in events if isinstance(e, RequestFinished)}
        num_new = sum(len(each.token_ids) for each in answers.values())
        return sum(map(len, ids)), num_new, loaded.tokenizer.decode(answers["0"].token_ids)

    serve(answer)


if __name__ == "__main__":
    main()
