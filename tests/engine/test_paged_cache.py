"""Paged accounting: whatever happens in whatever order, each sequence reads back its own tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.blocks import NULL_BLOCK
from engine.paged_cache import PagedCache
from tests.engine.slot_memory import SlotMemory, expected_content

BLOCK_SIZE = 3
NUM_BLOCKS = 9  # the null block included
MAX_SEQUENCES = 6
SALTS = ("", "tenant")


def _compute(cache: PagedCache, sequence_id: int, tokens: Sequence[int], start: int = 0) -> None:
    """Reserve and mark the rest of a sequence, as one step would."""
    assert cache.reserve(sequence_id, start, len(tokens))
    cache.mark_computed(sequence_id, len(tokens), lambda first, end: tokens[first:end])


def test_room_is_counted_in_whole_blocks() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    assert cache.max_tokens == 24
    assert cache.max_tokens_of(2, 4) == 12
    assert cache.can_reserve(24)
    assert not cache.can_reserve(25)
    cache.match_prefix(0, (1, 2, 3, 4), "")
    assert cache.reserve(0, 0, 4)
    assert cache.num_used_tokens == 6


def test_a_prompt_adopts_the_whole_blocks_it_shares_with_an_earlier_one() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(8), "")
    _compute(cache, 0, range(8))
    assert cache.match_prefix(1, range(8), "") == 6
    assert cache.block_table(1) == cache.block_table(0)[:2]
    assert cache.match_prefix(2, (0, 1, 2, 9, 9, 9, 9), "") == 3
    assert cache.match_prefix(3, (9, *range(8)), "") == 0
    assert cache.num_used_tokens == 9, "shared room counts once"


def test_one_token_is_always_left_to_compute() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(6), "")
    _compute(cache, 0, range(6))
    assert cache.match_prefix(1, range(6), "") == 3
    assert cache.match_prefix(2, range(3), "") == 0
    assert cache.match_prefix(3, (), "") == 0


def test_a_prefix_is_found_after_its_sequence_has_left() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(7), "")
    _compute(cache, 0, range(7))
    cache.release(0)
    assert cache.num_used_tokens == 0
    assert cache.match_prefix(1, range(7), "") == 6
    assert cache.num_used_tokens == 6


def test_when_room_is_needed_a_prefix_loses_its_tail_first() -> None:
    cache = PagedCache(num_blocks=4, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(9), "")
    _compute(cache, 0, range(9))
    cache.release(0)
    cache.match_prefix(1, (50,), "")
    _compute(cache, 1, (50,))
    cache.release(1)
    assert cache.match_prefix(2, range(10), "") == 6


@pytest.mark.parametrize(("salt", "other"), [("", "tenant"), ("a", "b")])
def test_salts_never_share(salt: str, other: str) -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(7), salt)
    _compute(cache, 0, range(7))
    assert cache.match_prefix(1, range(7), other) == 0
    assert cache.match_prefix(2, range(7), salt) == 6


def test_blocks_that_are_reserved_but_not_computed_are_not_shared() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(7), "")
    assert cache.reserve(0, 0, 7)
    assert cache.match_prefix(1, range(7), "") == 0
    cache.mark_computed(0, 4, lambda first, end: range(7)[first:end])
    assert cache.match_prefix(2, range(7), "") == 3


def test_a_fork_takes_no_room_until_one_of_the_two_writes() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(4), "")
    _compute(cache, 0, range(4))
    cache.fork(0, 1)
    assert cache.num_used_tokens == 6
    shared = cache.block_table(0)[1]
    assert cache.reserve(0, 4, 5)
    assert cache.num_used_tokens == 9
    assert cache.take_copies() == [(shared, cache.block_table(0)[1])]
    assert cache.reserve(1, 4, 5)
    assert cache.block_table(1)[1] == shared, "the last holder writes in place"
    assert cache.take_copies() == []


def test_a_refused_reservation_changes_nothing() -> None:
    cache = PagedCache(num_blocks=4, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(4), "")
    _compute(cache, 0, range(4))
    cache.fork(0, 1)
    before = list(cache.block_table(0))
    assert not cache.reserve(0, 4, 7), "a copy and a new block: two, and one is free"
    assert list(cache.block_table(0)) == before
    assert cache.take_copies() == []
    assert cache.can_reserve(3)


def test_a_copy_nobody_waits_for_any_more_is_not_made() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(4), "")
    _compute(cache, 0, range(4))
    cache.fork(0, 1)
    assert cache.reserve(1, 4, 5)
    cache.release(1)
    assert cache.take_copies() == []


def test_a_block_that_waits_for_its_copy_passes_its_source_on() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.match_prefix(0, range(4), "")
    _compute(cache, 0, range(4))
    source = cache.block_table(0)[1]
    cache.fork(0, 1)
    assert cache.reserve(1, 4, 5)
    cache.fork(1, 2)
    assert cache.reserve(2, 4, 5)
    destinations = {cache.block_table(1)[1], cache.block_table(2)[1]}
    assert set(cache.take_copies()) == {(source, destination) for destination in destinations}


def test_releasing_an_unknown_sequence_is_fine() -> None:
    cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    cache.release(7)
    assert cache.num_used_tokens == 0


@dataclass
class Tracked:
    """What the machine knows of a sequence."""

    salt: str
    tokens: list[int]
    num_computed: int
    reserved_to: int | None = None  # end of a range reserved for the coming forward

    @property
    def root(self) -> int:
        """What its content starts from: content of another salt is wrong content."""
        return SALTS.index(self.salt)

    def content(self, end: int) -> list[int]:
        """What positions [0, end) must hold."""
        return expected_content(self.tokens[:end], root=self.root)


class CacheMachine(RuleBasedStateMachine):
    """Sequences come, fork, grow and leave; a forward writes what was reserved since the last."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
        self.memory = SlotMemory(self.cache)
        self.sequences: dict[int, Tracked] = {}
        self.next_id = 0

    def _new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def _some(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.sequences)))

    @precondition(lambda self: len(self.sequences) < MAX_SEQUENCES)
    @rule(salt=st.sampled_from(SALTS), tokens=st.lists(st.integers(0, 1), min_size=1, max_size=12))
    def open(self, salt: str, tokens: list[int]) -> None:
        sequence_id = self._new_id()
        found = self.cache.match_prefix(sequence_id, tokens, salt)
        assert found < len(tokens)
        assert found % BLOCK_SIZE == 0
        self.sequences[sequence_id] = Tracked(salt, tokens, found)
        assert self.memory.read(sequence_id, found) == self.sequences[sequence_id].content(found)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), num_new=st.integers(1, 7))
    def reserve(self, data: st.DataObject, num_new: int) -> None:
        sequence_id = self._some(data)
        tracked = self.sequences[sequence_id]
        end = tracked.num_computed + num_new
        before = list(self.cache.block_table(sequence_id)), self.cache.num_used_tokens
        if self.cache.reserve(sequence_id, tracked.num_computed, end):
            tracked.reserved_to = end
        else:
            after = list(self.cache.block_table(sequence_id)), self.cache.num_used_tokens
            assert before == after

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def give_a_reservation_up(self, data: st.DataObject) -> None:
        self.sequences[self._some(data)].reserved_to = None

    @precondition(lambda self: 0 < len(self.sequences) < MAX_SEQUENCES)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        parent_id = self._some(data)
        parent, child_id = self.sequences[parent_id], self._new_id()
        parent.reserved_to = None  # it would write into what is shared from now on
        self.cache.fork(parent_id, child_id)
        self.sequences[child_id] = Tracked(parent.salt, list(parent.tokens), parent.num_computed)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        sequence_id = self._some(data)
        self.cache.release(sequence_id)
        del self.sequences[sequence_id]

    @rule(data=st.data())
    def forward(self, data: st.DataObject) -> None:
        self.memory.copy_blocks(self.cache.take_copies())
        writing = [entry for entry in self.sequences.items() if entry[1].reserved_to is not None]
        for sequence_id, tracked in writing:
            self._grow(tracked, data)
            self._assert_private(sequence_id, tracked)
            new = tracked.tokens[tracked.num_computed : tracked.reserved_to]
            self.memory.write(sequence_id, tracked.num_computed, new, root=tracked.root)
            tracked.num_computed, tracked.reserved_to = tracked.reserved_to, None
        for sequence_id, tracked in writing:
            tokens = tracked.tokens
            self.cache.mark_computed(
                sequence_id, tracked.num_computed, lambda first, end, of=tokens: of[first:end]
            )
        for sequence_id, tracked in self.sequences.items():
            found = self.memory.read(sequence_id, tracked.num_computed)
            assert found == tracked.content(tracked.num_computed)

    def _grow(self, tracked: Tracked, data: st.DataObject) -> None:
        while len(tracked.tokens) < tracked.reserved_to:
            tracked.tokens.append(data.draw(st.integers(0, 1)))

    def _assert_private(self, sequence_id: int, tracked: Tracked) -> None:
        first, last = tracked.num_computed // BLOCK_SIZE, (tracked.reserved_to - 1) // BLOCK_SIZE
        written = set(self.cache.block_table(sequence_id)[first : last + 1])
        for other in self.sequences.keys() - {sequence_id}:
            assert written.isdisjoint(self.cache.block_table(other))

    @invariant()
    def used_and_free_add_up(self) -> None:
        held = {block for each in self.sequences for block in self.cache.block_table(each)}
        assert NULL_BLOCK not in held
        assert self.cache.num_used_tokens == len(held) * BLOCK_SIZE
        num_free = NUM_BLOCKS - 1 - len(held)
        assert self.cache.can_reserve(num_free * BLOCK_SIZE)
        assert not self.cache.can_reserve(num_free * BLOCK_SIZE + 1)

    def teardown(self) -> None:
        for sequence_id in self.sequences:
            self.cache.release(sequence_id)
        assert self.cache.num_used_tokens == 0
        assert self.cache.take_copies() == []


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=120, stateful_step_count=40)
