"""vLLM's LLM class on a CPU, in float32."""

import sys
from collections.abc import Sequence

from serving import serve
from vllm import LLM, SamplingParams


def main() -> None:
    """Load the model folder in the first argument and answer."""
    model = LLM(
        sys.argv[1], dtype="float32", max_model_len=2048, enable_prefix_caching=False, seed=0
    )

    def answer(prompts: Sequence[str], new_tokens: int, _concurrency: int) -> tuple[int, int, str]:
        parameters = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
        outputs = model.generate(prompts, parameters, use_tqdm=False)
        num_new = sum(len(output.outputs[0].token_ids) for output in outputs)
        num_prompt = sum(len(output.prompt_token_ids) for output in outputs)
        return num_prompt, num_new, outputs[0].outputs[0].text

    serve(answer)


if __name__ == "__main__":
    main()
