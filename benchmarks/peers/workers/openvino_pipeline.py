"""OpenVINO GenAI: its pipeline for one stream, its continuous batching for several."""

import sys
from collections.abc import Sequence

import openvino_genai
from serving import serve


def main() -> None:
    """Load the model in the first argument, a GGUF file or a folder, and answer."""
    one = openvino_genai.LLMPipeline(sys.argv[1], "CPU")
    tokenizer = one.get_tokenizer()
    settings = openvino_genai.GenerationConfig()
    settings.do_sample, settings.ignore_eos = False, True
    settings.apply_chat_template = False
    many = []

    def answer(prompts: Sequence[str], new_tokens: int, concurrency: int) -> tuple[int, int, str]:
        settings.max_new_tokens = new_tokens
        num_prompt = sum(tokenizer.encode(prompt).input_ids.shape[1] for prompt in prompts)
        if concurrency == 1:
            results = [one.generate([prompt], settings) for prompt in prompts]
            texts = [result.texts[0] for result in results]
            counts = [result.perf_metrics.get_num_generated_tokens() for result in results]
        else:
            if not many:
                scheduler = openvino_genai.SchedulerConfig()
                scheduler.enable_prefix_caching = False
                many.append(
                    openvino_genai.ContinuousBatchingPipeline(
                        sys.argv[1], scheduler_config=scheduler, device="CPU"
                    )
                )
            results = many[0].generate(list(prompts), [settings] * len(prompts))
            texts = [result.m_generation_ids[0] for result in results]
            counts = [results[0].perf_metrics.get_num_generated_tokens()]  # of them all
        return num_prompt, sum(counts), texts[0]

    serve(answer)


if __name__ == "__main__":
    main()
