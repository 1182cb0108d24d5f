"""Row accounting, checked by a simulation that writes a token's name wherever the cache says."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from engine.row_cache import RowCache

PIECE = 4
MAX_ROWS = 5
prompts = st.lists(st.integers(0, 1), min_size=1, max_size=14)


class Rows(RuleBasedStateMachine):
    """Random sequences open, grow, fork, pack and close; each must read back its own tokens."""

    sequences = Bundle("sequences")

    def __init__(self):
        super().__init__()
        self.cache = RowCache(num_rows=MAX_ROWS, num_donors=2, max_tokens=10_000, alignment=PIECE)
        self.slots = [[None] * 64 for _ in range(MAX_ROWS + 3)]
        self.tokens: dict[int, list[int]] = {}
        self.salts: dict[int, str] = {}
        self.next_id = 0

    def new_id(self):
        self.next_id += 1
        return self.next_id

    def carry_out(self):
        for copy in self.cache.take_copies():
            self.slots[copy.destination][: copy.length] = self.slots[copy.source][: copy.length]

    def write(self, sequence, start):
        """Compute tokens from `start` on, as a runner does: copies first."""
        tokens = self.tokens[sequence]
        assert self.cache.reserve(sequence, start, len(tokens))
        self.carry_out()
        place = self.cache.place(sequence)
        for at in range(start, len(tokens)):
            self.slots[place][at] = (self.salts[sequence], tuple(tokens[: at + 1]))
        self.cache.mark_computed(sequence, len(tokens), lambda a, b: tokens[a:b])

    @precondition(lambda self: len(self.tokens) < MAX_ROWS)
    @rule(target=sequences, prompt=prompts, salt=st.sampled_from(["", "tenant"]))
    def open(self, prompt, salt):
        sequence = self.new_id()
        self.tokens[sequence], self.salts[sequence] = list(prompt), salt
        known = self.cache.match_prefix(sequence, prompt, salt)
        assert known < len(prompt)
        assert known % PIECE == 0
        self.write(sequence, known)
        return sequence

    @rule(sequence=sequences, token=st.integers(0, 1))
    def decode(self, sequence, token):
        if sequence in self.tokens and len(self.tokens[sequence]) < 60:
            self.tokens[sequence].append(token)
            self.write(sequence, len(self.tokens[sequence]) - 1)

    @precondition(lambda self: len(self.tokens) < MAX_ROWS)
    @rule(target=sequences, parent=sequences)
    def fork(self, parent):
        if parent not in self.tokens:
            return multiple()
        child = self.new_id()
        self.cache.fork(parent, child)
        self.tokens[child], self.salts[child] = self.tokens[parent].copy(), self.salts[parent]
        return child

    @rule(sequence=consumes(sequences))
    def close(self, sequence):
        self.cache.release(sequence)
        self.tokens.pop(sequence, None)

    @rule(data=st.data())
    def pack(self, data):
        chosen = (
            data.draw(st.lists(st.sampled_from(sorted(self.tokens)), unique=True))
            if (self.tokens)
            else []
        )
        self.cache.pack(chosen)
        assert sorted(map(self.cache.place, chosen)) == list(range(len(chosen)))

    @invariant()
    def live_rows_stand_at_the_front_and_hold_their_own_tokens(self):
        places = sorted(map(self.cache.place, self.tokens))
        assert places == list(range(len(self.tokens)))
        self.carry_out()
        for sequence, tokens in self.tokens.items():
            held = self.slots[self.cache.place(sequence)][: len(tokens)]
            salt = self.salts[sequence]
            assert held == [(salt, tuple(tokens[: at + 1])) for at in range(len(tokens))]

    def teardown(self):
        for sequence in self.tokens:
            self.cache.release(sequence)
        assert self.cache.num_used_tokens == 0


TestRows = Rows.TestCase
TestRows.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def open_and_compute(cache, sequence, tokens, salt=""):
    known = cache.match_prefix(sequence, tokens, salt)
    assert cache.reserve(sequence, known, len(tokens))
    cache.mark_computed(sequence, len(tokens), lambda a, b: tokens[a:b])
    return known


def test_a_finished_prompt_is_a_donor_in_whole_pieces():
    cache = RowCache(num_rows=2, num_donors=1, max_tokens=100, alignment=PIECE)
    open_and_compute(cache, 1, [1, 2, 3, 4, 5, 6])
    cache.release(1)
    assert cache.match_prefix(2, [1, 2, 3, 4, 5, 6, 7], "") == PIECE


def test_generated_tokens_are_not_shared():
    cache = RowCache(num_rows=2, num_donors=1, max_tokens=100, alignment=PIECE)
    tokens = [1, 2, 3]
    open_and_compute(cache, 1, tokens)
    tokens += [4, 5, 6, 7, 8]
    cache.mark_computed(1, len(tokens), lambda a, b: tokens[a:b])
    assert cache.match_prefix(2, [*tokens, 9], "") == 0


def test_another_salt_shares_nothing():
    cache = RowCache(num_rows=2, num_donors=1, max_tokens=100, alignment=PIECE)
    open_and_compute(cache, 1, [1, 2, 3, 4, 5], salt="a")
    assert cache.match_prefix(2, [1, 2, 3, 4, 5], "b") == 0


def test_donors_give_way_to_live_rows():
    cache = RowCache(num_rows=2, num_donors=2, max_tokens=10, alignment=PIECE)
    open_and_compute(cache, 1, [1, 2, 3, 4, 5])
    cache.release(1)
    assert open_and_compute(cache, 2, [7] * 9) == 0
    assert cache.lengths() == {0: 9}
    assert cache.match_prefix(3, [1, 2, 3, 4, 5], "") == 0


@pytest.mark.parametrize(("end", "fits"), [(10, True), (11, False)])
def test_live_rows_do_not_give_way(end, fits):
    cache = RowCache(num_rows=2, num_donors=0, max_tokens=12, alignment=PIECE)
    open_and_compute(cache, 1, [1, 2])
    cache.match_prefix(2, [3] * end, "")
    assert cache.reserve(2, 0, end) is fits
