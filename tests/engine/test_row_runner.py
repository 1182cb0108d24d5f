"""How much the cache of whole rows holds: what the settings or the memory allow."""

import pytest

from engine import cache_size
from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.errors import CacheTooLarge, CacheTooSmall
from engine.row_runner import RowRunner

SHAPE = DecoderShape(num_layers=2, num_kv_heads=2, head_dim=8, context_length=1000)


def most_tokens(**settings):
    config = EngineConfig(**{"max_rows": 4, "max_step_tokens": 100} | settings)
    return RowRunner(SHAPE, config, vocab_size=10).cache.max_tokens


def test_settings_say_how_many_tokens_there_are_but_no_more_than_a_full_batch_uses():
    assert most_tokens(kv_cache_bytes=50 * SHAPE.bytes_per_token) == 50
    assert most_tokens(kv_cache_bytes=5000 * SHAPE.bytes_per_token) == 4000


def test_cache_that_is_too_small_or_too_large_is_refused(monkeypatch):
    with pytest.raises(CacheTooSmall, match="raise kv_cache_bytes"):
        most_tokens(kv_cache_bytes=3 * SHAPE.bytes_per_token)
    monkeypatch.setattr(cache_size, "available_memory_bytes", lambda: 100 * SHAPE.bytes_per_token)
    assert most_tokens(kv_cache_bytes=100 * SHAPE.bytes_per_token) == 100
    with pytest.raises(CacheTooLarge, match="lower kv_cache_bytes"):
        most_tokens(kv_cache_bytes=101 * SHAPE.bytes_per_token)
