"""transformers: `generate` with beams, one request after the other."""

import sys
from collections.abc import Sequence

import torch
from serving import serve
from transformers import AutoModelForCausalLM, AutoTokenizer

NUM_BEAMS = int(sys.argv[2])


def main() -> None:
    """Load the model folder in the first argument and answer."""
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()

    def answer(prompts: Sequence[str], new_tokens: int, _concurrency: int) -> tuple[int, int, str]:
        num_prompt = num_new = 0
        texts = []
        for prompt in prompts:
            inputs = tokenizer(prompt, return_tensors="pt")
            with torch.inference_mode():
                output = model.generate(
                    **inputs,
                    num_beams=NUM_BEAMS,
                    do_sample=False,
                    max_new_tokens=new_tokens,
                    min_new_tokens=new_tokens,
                    pad_token_id=0,
                )
            count = inputs["input_ids"].shape[1]
            num_prompt += count
            num_new += output.shape[1] - count
            texts.append(tokenizer.decode(output[0, count:]))
        return num_prompt, num_new, texts[0]

    serve(answer)


if __name__ == "__main__":
    main()
