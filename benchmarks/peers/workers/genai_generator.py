"""onnxruntime-genai's generator: one sequence, or several of equal length side by side."""

import sys
from collections.abc import Sequence

import onnxruntime_genai
from serving import serve


def main() -> None:
    """Load the folder in the first argument and answer."""
    model = onnxruntime_genai.Model(sys.argv[1])
    tokenizer = onnxruntime_genai.Tokenizer(model)

    def answer(prompts: Sequence[str], new_tokens: int, concurrency: int) -> tuple[int, int, str]:
        num_prompt = num_new = 0
        text = ""
        for begin in range(0, len(prompts), concurrency):
            encoded = tokenizer.encode_batch(list(prompts[begin : begin + concurrency]))
            tokens = encoded.as_numpy()
            rows, length = tokens.shape
            parameters = onnxruntime_genai.GeneratorParams(model)
            parameters.set_search_options(
                do_sample=False,
                batch_size=rows,
                max_length=length + new_tokens,
                min_length=length + new_tokens,  # the end token does not end it
            )
            generator = onnxruntime_genai.Generator(model, parameters)
            generator.append_tokens(tokens)
            for _ in range(new_tokens):
                generator.generate_next_token()
            num_prompt += rows * length
            num_new += rows * new_tokens
            text = text or tokenizer.decode(generator.get_sequence(0)[length:])
        return num_prompt, num_new, text

    serve(answer)


if __name__ == "__main__":
    main()
