"""Block reference counts: free and held add up, contents live until reuse."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.blocks import NULL_BLOCK, BlockAllocator

NUM_BLOCKS = 6  # the null block included


def test_the_null_block_is_never_handed_out() -> None:
    blocks = BlockAllocator(4)
    assert blocks.num_blocks == blocks.num_free == 3
    assert NULL_BLOCK not in [blocks.allocate() for _ in range(3)]
    assert blocks.num_free == 0


def test_a_block_is_free_once_its_last_holder_leaves() -> None:
    blocks = BlockAllocator(4)
    block = blocks.allocate()
    blocks.share(block)
    assert not blocks.release(block)
    assert blocks.num_free == 2
    assert blocks.release(block)
    assert blocks.num_free == 3


def test_releasing_a_free_block_is_a_bug() -> None:
    blocks = BlockAllocator(4)
    with pytest.raises(AssertionError, match="more often than held"):
        blocks.release(2)


def test_content_of_a_free_block_is_found_until_it_is_needed() -> None:
    blocks = BlockAllocator(3)
    first, second = blocks.allocate(), blocks.allocate()
    blocks.remember(first, b"first")
    blocks.remember(second, b"second")
    blocks.release(first)
    blocks.release(second)
    assert (blocks.find(b"first"), blocks.find(b"second")) == (first, second)
    assert blocks.allocate() == first, "least recently freed goes first"
    assert blocks.find(b"first") is None
    assert blocks.find(b"second") == second


def test_a_block_without_content_is_reused_before_one_with() -> None:
    blocks = BlockAllocator(4)
    known, unknown, _ = (blocks.allocate() for _ in range(3))
    blocks.remember(known, b"known")
    blocks.release(known)
    blocks.release(unknown)
    assert blocks.allocate() == unknown
    assert blocks.find(b"known") == known


def test_sharing_a_free_block_brings_it_back() -> None:
    blocks = BlockAllocator(3)
    block = blocks.allocate()
    blocks.remember(block, b"content")
    blocks.release(block)
    blocks.share(block)
    assert blocks.num_holders(block) == 1
    assert blocks.num_free == 1
    assert blocks.allocate() != block


def test_the_first_block_with_a_content_stays_the_known_one() -> None:
    blocks = BlockAllocator(3)
    first, second = blocks.allocate(), blocks.allocate()
    blocks.remember(first, b"content")
    blocks.remember(second, b"content")
    blocks.remember(first, b"other")
    assert blocks.find(b"content") == first
    assert blocks.find(b"other") is None
    blocks.release(second)
    blocks.allocate()
    assert blocks.find(b"content") == first, "reusing the copy must not forget the original"


class BlockMachine(RuleBasedStateMachine):
    """The allocator against plain dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockAllocator(NUM_BLOCKS)
        self.holders: dict[int, int] = {}
        self.contents: dict[int, bytes] = {}  # of held and free blocks

    @precondition(lambda self: len(self.holders) < NUM_BLOCKS - 1)
    @rule()
    def allocate(self) -> None:
        block = self.blocks.allocate()
        assert block != NULL_BLOCK
        assert block not in self.holders
        self.holders[block] = 1
        self.contents.pop(block, None)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def share_held(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.holders)))
        self.blocks.share(block)
        self.holders[block] += 1

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.holders)))
        self.holders[block] -= 1
        is_last = self.holders[block] == 0
        assert self.blocks.release(block) == is_last
        if is_last:
            del self.holders[block]

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), content=st.sampled_from([b"a", b"b", b"c", b"d"]))
    def remember(self, data: st.DataObject, content: bytes) -> None:
        block = data.draw(st.sampled_from(sorted(self.holders)))
        self.blocks.remember(block, content)
        if block not in self.contents and content not in self.contents.values():
            self.contents[block] = content

    @rule(content=st.sampled_from([b"a", b"b", b"c", b"d"]))
    def adopt(self, content: bytes) -> None:
        block = self.blocks.find(content)
        if block is not None:
            self.blocks.share(block)
            self.holders[block] = self.holders.get(block, 0) + 1

    @invariant()
    def held_and_free_add_up(self) -> None:
        assert self.blocks.num_free == NUM_BLOCKS - 1 - len(self.holders)
        for block in range(1, NUM_BLOCKS):
            assert self.blocks.num_holders(block) == self.holders.get(block, 0)

    @invariant()
    def contents_are_found_where_they_are(self) -> None:
        for block, content in self.contents.items():
            assert self.blocks.find(content) == block


TestBlockMachine = BlockMachine.TestCase
TestBlockMachine.settings = settings(max_examples=60, stateful_step_count=40)
