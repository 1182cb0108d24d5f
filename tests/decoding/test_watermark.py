"""The detector finds what transformers' finds, with the same numbers."""

from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, WatermarkDetector, WatermarkingConfig

from decoding.adjustments import Watermark
from decoding.watermark import detect, green_tokens

VOCAB_SIZE = 500
MARK = Watermark(greenlist_ratio=0.3, bias=3.0, hashing_key=4242)


def text_of(share_green: float, *, length: int = 120, seed: int = 0) -> list[int]:
    """Random tokens, so many of them green after the one before."""
    generator = torch.Generator().manual_seed(seed)
    ids = [7]
    for _ in range(length):
        green = torch.from_numpy(green_tokens(MARK, ids[-1], VOCAB_SIZE))
        is_green = torch.rand((), generator=generator).item() < share_green
        choices = (green if is_green else ~green).nonzero().flatten()
        at = int(torch.randint(len(choices), (1,), generator=generator))
        ids.append(int(choices[at]))
    return ids


@pytest.mark.parametrize("share_green", [0.0, 0.3, 0.5, 1.0])
def test_the_detector_counts_what_transformers_counts(share_green: float) -> None:
    ids = text_of(share_green)
    reference = WatermarkDetector(
        GPT2Config(vocab_size=VOCAB_SIZE, bos_token_id=VOCAB_SIZE - 1),
        "cpu",
        WatermarkingConfig(greenlist_ratio=0.3, bias=3.0, hashing_key=4242),
    )(torch.tensor([ids]), return_dict=True)
    ours = detect(ids, MARK, VOCAB_SIZE)
    assert ours.num_tokens_scored == reference.num_tokens_scored[0]
    assert ours.num_green_tokens == reference.num_green_tokens[0]
    assert ours.z_score == pytest.approx(reference.z_score[0])
    assert ours.p_value == pytest.approx(reference.p_value[0])
    assert ours.is_watermarked == reference.prediction[0] == (share_green >= 0.5)


def test_another_key_finds_nothing() -> None:
    ids = text_of(1.0)
    assert detect(ids, MARK, VOCAB_SIZE).is_watermarked
    assert not detect(ids, replace(MARK, hashing_key=4243), VOCAB_SIZE).is_watermarked


def test_a_list_holds_its_share_and_depends_on_the_token_before() -> None:
    lists = {tuple(green_tokens(MARK, token, VOCAB_SIZE).tolist()) for token in range(20)}
    assert len(lists) == 20
    assert {sum(each) for each in lists} == {150}
