"""vLLM's beam search on a CPU, in float32; it relies on the prefix cache."""

import sys
from collections.abc import Sequence

from serving import serve
from vllm import LLM
from vllm.sampling_params import BeamSearchParams

NUM_BEAMS = int(sys.argv[2])


def main() -> None:
    """Load the model folder in the first argument and answer."""
    model = LLM(
        sys.argv[1], dtype="float32", max_model_len=1024, enable_prefix_caching=True, seed=0
    )
    tokenizer = model.get_tokenizer()

    def answer(prompts: Sequence[str], new_tokens: int, _concurrency: int) -> tuple[int, int, str]:
        parameters = BeamSearchParams(beam_width=NUM_BEAMS, max_tokens=new_tokens, ignore_eos=True)
        outputs = model.beam_search([{"prompt": prompt} for prompt in prompts], parameters)
        num_prompt = sum(len(tokenizer.encode(prompt)) for prompt in prompts)
        num_new = sum(len(output.sequences[0].tokens) for output in outputs) - num_prompt
        first = outputs[0].sequences[0].tokens[len(tokenizer.encode(prompts[0])) :]
        return num_prompt, num_new, tokenizer.decode(first)

    serve(answer)


if __name__ == "__main__":
    main()
