"""The tensors of the cache: shapes by layer, block copies that read before they write."""

import torch

from engine.kv_store import KVStore, LayerShape

BLOCK_SIZE = 2


def _store(num_blocks: int = 5) -> KVStore:
    shapes = {0: LayerShape(2, 3, 3), 3: LayerShape(1, 4, 2)}
    return KVStore(
        shapes,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        dtype=torch.float64,
        device=torch.device("cpu"),
    )


def _fill(store: KVStore) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    contents = {}
    for layer in (0, 3):
        for tensor in store.layer(layer):
            tensor.copy_(torch.randn(tensor.shape))
        keys, values = store.layer(layer)
        contents[layer] = keys.clone(), values.clone()
    return contents


def test_each_layer_keeps_keys_and_values_of_its_own_shape() -> None:
    store = _store()
    assert [tuple(tensor.shape) for tensor in store.layer(0)] == [(10, 2, 3), (10, 2, 3)]
    assert [tuple(tensor.shape) for tensor in store.layer(3)] == [(10, 1, 4), (10, 1, 2)]
    assert store.layer(3)[0].dtype == torch.float64


def test_a_shape_counts_the_numbers_it_keeps_of_a_token() -> None:
    assert LayerShape(2, 3, 5).width == 16


def test_the_null_block_is_finite_from_the_start() -> None:
    for layer in (0, 3):
        for tensor in _store().layer(layer):
            assert torch.equal(tensor[:BLOCK_SIZE], torch.zeros_like(tensor[:BLOCK_SIZE]))


def test_copies_read_all_sources_before_they_write() -> None:
    store = _store()
    before = _fill(store)
    store.copy_blocks([(1, 2), (2, 3), (3, 1)])
    slot_came_from = [0, 1, 6, 7, 2, 3, 4, 5, 8, 9]
    for layer in (0, 3):
        for found, old in zip(store.layer(layer), before[layer], strict=True):
            assert torch.equal(found, old[slot_came_from])


def test_no_copies_change_nothing() -> None:
    store = _store()
    before = _fill(store)
    store.copy_blocks([])
    assert torch.equal(store.layer(0)[0], before[0][0])
