"""transformers: `generate` with a padded batch, or its continuous batching (`--continuous`)."""

import sys
from collections.abc import Sequence

import torch
from serving import serve
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig


def main() -> None:
    """Load the model folder in the first argument and answer."""
    folder, *options = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    attention = {"attn_implementation": "paged|sdpa"} if options else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **attention).eval()

    def generate(prompts: Sequence[str], new_tokens: int, concurrency: int) -> tuple[int, int, str]:
        num_prompt = num_new = 0
        text = ""
        for begin in range(0, len(prompts), concurrency):
            batch = tokenizer(
                list(prompts[begin : begin + concurrency]), return_tensors="pt", padding=True
            )
            with torch.inference_mode():
                output = model.generate(
                    **batch, do_sample=False, max_new_tokens=new_tokens, min_new_tokens=new_tokens
                )
            new = output[:, batch["input_ids"].shape[1] :]
            num_prompt += int(batch["attention_mask"].sum())
            num_new += new.numel()
            text = text or tokenizer.decode(new[0])
        return num_prompt, num_new, text

    def generate_continuously(
        prompts: Sequence[str], new_tokens: int, _concurrency: int
    ) -> tuple[int, int, str]:
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=new_tokens, eos_token_id=-1, pad_token_id=0
        )
        ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        outputs = list(model.generate_batch(ids, generation_config=settings).values())
        new = [output.generated_tokens for output in outputs]
        return sum(map(len, ids)), sum(map(len, new)), tokenizer.decode(new[0])

    serve(generate_continuously if options else generate)


if __name__ == "__main__":
    main()
