"""Scheduling as arithmetic: budgets hold, nobody starves, nothing leaks, preemption is unseen."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.config import EngineConfig
from engine.messages import GenerationRequest
from engine.sequence import Group
from engine.urgency import Urgency
from tests.engine.hash_runner import build_request
from tests.engine.scheduler_loop import SchedulerLoop, finish_alone
from tests.engine.shuffle import Shuffle

BLOCK_SIZE = 4


def _request(
    request_id: str,
    num_prompt: int,
    *,
    new: int = 5,
    width: int = 1,
    first: int = 0,
    priority: int = 0,
) -> GenerationRequest:
    request = build_request(
        request_id,
        tuple(range(first, first + num_prompt)),
        Shuffle(width=width),
        max_new_tokens=new,
    )
    return replace(request, urgency=Urgency(priority=priority))


def _loop(
    *,
    max_rows: int = 4,
    max_step_tokens: int = 8,
    num_blocks: int = 100,
    seconds_per_priority: float = 1000.0,
) -> SchedulerLoop:
    config = EngineConfig(
        max_rows=max_rows,
        max_step_tokens=max_step_tokens,
        block_size=BLOCK_SIZE,
        seconds_per_priority=seconds_per_priority,
    )
    return SchedulerLoop(config, num_blocks=num_blocks)


def test_there_is_no_plan_without_work() -> None:
    assert _loop().scheduler.plan() is None


def test_decoding_requests_get_their_token_while_a_long_prompt_is_computed_in_chunks() -> None:
    loop = _loop(max_step_tokens=8)
    loop.submit(_request("short", 3, new=20))
    loop.step()
    loop.submit(_request("long", 30, first=100))
    lengths = []
    for _ in range(4):
        plan = loop.step()
        assert plan.stepping[0].request.request_id == "short"
        lengths.append([row.end - row.start for row in plan.rows])
    assert lengths == [[1, 7], [1, 7], [1, 7], [1, 7]]
    assert len(loop.step().stepping) == 2


def test_a_chunk_leaves_the_newest_token_for_the_step_in_which_its_group_chooses() -> None:
    loop = _loop(max_step_tokens=8)
    loop.submit(_request("long", 9))
    plan = loop.step()
    assert [(row.start, row.end, row.num_logits) for row in plan.rows] == [(0, 8, 0)]
    assert plan.stepping == ()
    plan = loop.step()
    assert [(row.start, row.end, row.num_logits) for row in plan.rows] == [(8, 9, 1)]


def test_rows_are_kept_free_for_all_sequences_a_running_request_may_yet_have() -> None:
    loop = _loop(max_rows=4)
    loop.submit(_request("wide", 2, width=3))
    loop.submit(_request("also wide", 2, width=2, first=50))
    loop.step()
    assert [group.request.request_id for group in loop.scheduler.waiting] == ["also wide"]


def test_a_request_that_does_not_fit_yet_is_not_overtaken_by_one_that_would() -> None:
    loop = _loop(max_rows=4)
    loop.submit(_request("first", 2, width=3, new=3))
    loop.submit(_request("wide", 2, width=4, first=50))
    loop.submit(_request("narrow", 2, first=70))
    loop.step()
    loop.step()
    assert [group.request.request_id for group in loop.scheduler.running] == ["first"]
    loop.finish()
    order = [group.request.request_id for group in loop.started]
    assert order == ["first", "wide", "narrow"]


def test_a_big_request_in_a_stream_of_small_ones_is_served() -> None:
    loop = _loop(max_rows=4, max_step_tokens=8, num_blocks=16)
    loop.submit(_request("small 0", 3))
    loop.step()
    big = _request("big", 20, width=2, new=5, first=100)
    loop.submit(big)
    for number in range(1, 60):
        loop.submit(_request(f"small {number}", 3, first=10 * number))
        loop.step()
        if "big" in loop.results:
            break
    assert loop.results["big"] == finish_alone(big)
    assert number < 30, "the small ones that came later went first"


def test_the_youngest_gives_up_its_room_and_still_ends_with_the_same_tokens() -> None:
    loop = _loop(num_blocks=7)  # room for 24 tokens
    old, young = _request("old", 6, new=10), _request("young", 6, new=10, first=50)
    loop.submit(old)
    loop.submit(young)
    preempted = []
    while loop.has_work:
        loop.step()
        preempted += [g for g in loop.scheduler.waiting if g.num_preemptions]
        loop.check_room()
    assert {group.request.request_id for group in preempted} == {"young"}
    assert loop.scheduler.num_preemptions >= 1
    assert loop.results["old"] == finish_alone(old)
    assert loop.results["young"] == finish_alone(young)


def test_a_preempted_request_waits_in_front_of_all_younger_ones() -> None:
    loop = _loop(num_blocks=7)
    loop.submit(_request("old", 6, new=12))
    loop.submit(_request("young", 6, new=12, first=50))
    loop.submit(_request("youngest", 6, first=80))
    while not loop.scheduler.num_preemptions:
        loop.step()
    waiting = [group.request.request_id for group in loop.scheduler.waiting]
    assert waiting == ["young", "youngest"]
    loop.finish()


def test_a_preempted_group_of_many_rows_recomputes_each_and_ends_with_the_same_tokens() -> None:
    loop = _loop(max_rows=8, max_step_tokens=8, num_blocks=10)
    requests = [
        _request("old", 5, new=20),
        _request("also old", 5, new=20, first=30),
        _request("young", 5, new=9, width=2, first=50),
    ]
    for request in requests:
        loop.submit(request)
    while not loop.scheduler.num_preemptions:
        loop.step()
    assert [len(group.rows) for group in loop.scheduler.waiting] == [2]
    loop.finish()
    assert loop.results == {each.request_id: finish_alone(each) for each in requests}


def test_a_group_that_is_in_the_plan_already_is_not_preempted() -> None:
    loop = _loop(num_blocks=4)
    loop.submit(_request("old", 6))
    loop.submit(_request("young", 3, first=50))
    old, young = loop.scheduler.waiting
    _place(loop, old, num_computed=4)
    young.rows[0].generated_ids.append(1)
    _place(loop, young, num_computed=3)
    loop.cache.match_prefix(-1, (), "")
    assert loop.cache.reserve(-1, 0, BLOCK_SIZE), "somebody else has the last block"
    plan = loop.scheduler.plan()
    assert plan.stepping == (young,), "it decodes, so it was planned before the older prompt"
    assert loop.scheduler.running == [old, young]


def _place(loop: SchedulerLoop, group: Group, *, num_computed: int) -> None:
    """Let a waiting group run with part of its tokens computed."""
    (row,) = group.rows
    loop.cache.match_prefix(row.id, (), "")
    assert loop.cache.reserve(row.id, 0, num_computed)
    row.num_computed = num_computed
    loop.scheduler.waiting.remove(group)
    loop.scheduler.running.append(group)


def test_a_preempted_request_finds_generated_tokens_again_that_nobody_has_overwritten() -> None:
    loop = _loop(max_step_tokens=64)
    loop.submit(_request("preempted", 6, new=20))
    for _ in range(12):
        loop.step()
    (group,) = loop.scheduler.running
    loop.scheduler._preempt(group)
    plan = loop.step()
    assert [(row.start, row.end) for row in plan.rows] == [(16, 18)]
    loop.finish()
    assert loop.results["preempted"] == finish_alone(_request("preempted", 6, new=20))


def test_waiting_requests_are_admitted_by_priority_then_by_arrival() -> None:
    loop = _loop(max_rows=1)
    loop.submit(_request("runs", 3))
    loop.step()
    for number, priority in enumerate([1, 0, -2, 0, 1, -1]):
        name = f"{priority}, {number}"
        loop.submit(_request(name, 3, first=10 * number, priority=priority))
    loop.finish()
    order = [group.request.request_id for group in loop.started]
    assert order == ["runs", "-2, 2", "-1, 5", "0, 1", "0, 3", "1, 0", "1, 4"]


def test_an_urgent_request_that_does_not_fit_yet_is_not_overtaken() -> None:
    loop = _loop(max_rows=4)
    loop.submit(_request("runs", 2, width=3))
    loop.step()
    loop.submit(_request("narrow", 2, first=70))
    loop.submit(_request("urgent", 2, width=4, first=50, priority=-1))
    loop.finish()
    order = [group.request.request_id for group in loop.started]
    assert order == ["runs", "urgent", "narrow"]


def test_the_least_urgent_gives_up_its_room_and_still_ends_with_the_same_tokens() -> None:
    loop = _loop(num_blocks=7)  # room for 24 tokens
    old = _request("old", 6, new=10, priority=1)
    young = _request("young", 6, new=10, first=50)
    loop.submit(old)
    loop.step()
    loop.submit(young)
    preempted = set()
    while loop.has_work:
        loop.step()
        preempted |= {g.request.request_id for g in loop.scheduler.waiting if g.num_preemptions}
    assert preempted == {"old"}
    assert loop.results == {each.request_id: finish_alone(each) for each in (old, young)}


def test_a_request_waits_for_more_urgent_ones_only_as_long_as_its_priority_says() -> None:
    loop = _loop(max_rows=1, seconds_per_priority=5.0)  # a step takes a second
    loop.submit(_request("urgent 0", 3, new=2))
    loop.submit(_request("patient", 3, new=2, first=200, priority=2))
    for number in range(1, 40):
        loop.submit(_request(f"urgent {number}", 3, new=2, first=3 * number))
        loop.step()
        if "patient" in loop.results:
            break
    ahead = [group.request.request_id for group in loop.started][:-1]
    assert ahead == [f"urgent {number}" for number in range(len(ahead))]
    arrived_in_time = 1 + 2 * 5  # those that came within ten seconds of it, and the first
    assert len(ahead) == arrived_in_time


@pytest.mark.parametrize("num_steps", [0, 1, 3, 8], ids=["queue", "prefill", "chunk", "decode"])
def test_a_cancelled_request_frees_its_room_at_once(num_steps: int) -> None:
    loop = _loop(max_step_tokens=8)
    loop.submit(_request("kept", 3, new=30))
    loop.step()
    loop.submit(_request("cancelled", 30, width=3, new=30, first=100))
    for _ in range(num_steps):
        loop.step()
    kept = loop.scheduler.running[0]
    loop.cancel("cancelled")
    assert loop.scheduler.running == [kept]
    assert loop.scheduler.waiting == []
    loop.check_room()


def test_a_shared_prefix_is_computed_once() -> None:
    loop = _loop(max_step_tokens=64)
    loop.submit(_request("first", 17, new=1))
    loop.submit(_request("second", 18, new=3))
    loop.submit(_request("third", 19, new=1))
    loop.step()
    loop.submit(_request("fourth", 18, new=3))
    plan = loop.step()
    starts = {row.sequence.prompt_ids[-1]: row.start for row in plan.rows if row.start < 18}
    assert starts == {17: 16}
    assert loop.scheduler.running[-1].num_cached_tokens == 16
    loop.finish()
    assert loop.results["second"] == loop.results["fourth"]


class SchedulerMachine(RuleBasedStateMachine):
    """Requests come, run and are cancelled in any order, in a cache that is mostly too small."""

    @initialize(
        max_rows=st.integers(2, 8),
        extra_budget=st.integers(0, 12),
        num_blocks=st.integers(8, 16),
        seconds_per_priority=st.sampled_from([0.5, 7.0, 1000.0]),
    )
    def start(
        self, max_rows: int, extra_budget: int, num_blocks: int, seconds_per_priority: float
    ) -> None:
        self.loop = _loop(
            max_rows=max_rows,
            max_step_tokens=max_rows + extra_budget,
            num_blocks=num_blocks,
            seconds_per_priority=seconds_per_priority,
        )
        self.requests: list[GenerationRequest] = []
        self.cancelled: set[str] = set()

    @rule(
        prompts=st.lists(
            st.lists(st.integers(0, 1), min_size=1, max_size=14), min_size=1, max_size=4
        ),
        width=st.integers(1, 4),
        new=st.integers(1, 24),
        seed=st.integers(0, 3),
        priority=st.integers(-2, 2),
    )
    def submit(
        self, prompts: list[list[int]], width: int, new: int, seed: int, priority: int
    ) -> None:
        for prompt in prompts:
            request = build_request(
                str(len(self.requests)),
                tuple(prompt),
                Shuffle(width=width),
                max_new_tokens=new,
                seed=seed,
            )
            request = replace(request, urgency=Urgency(priority=priority))
            if self.loop.fits(request):
                self.loop.submit(request)
                self.requests.append(request)

    @precondition(lambda self: self.loop.has_work)
    @rule(count=st.integers(1, 12))
    def step(self, count: int) -> None:
        for _ in range(count):
            if self.loop.has_work:
                self.loop.step()

    @precondition(lambda self: self.loop.has_work)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        groups = (*self.loop.scheduler.running, *self.loop.scheduler.waiting)
        request_id = data.draw(st.sampled_from([each.request.request_id for each in groups]))
        self.loop.cancel(request_id)
        self.cancelled.add(request_id)

    @invariant()
    def only_running_rows_take_room(self) -> None:
        self.loop.check_room()

    @invariant()
    def groups_are_in_order(self) -> None:
        for groups in (self.loop.scheduler.waiting, self.loop.scheduler.running):
            places = [group.order for group in groups]
            assert places == sorted(places)

    @invariant()
    def of_one_priority_the_first_to_come_are_the_first_to_begin(self) -> None:
        for priority in range(-2, 3):
            began = [
                int(group.request.request_id)
                for group in self.loop.started
                if group.request.urgency.priority == priority
            ]
            assert began == sorted(began)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loop.finish()
        assert self.loop.cache.num_used_tokens == 0
        finished = {each.request_id for each in self.requests} - self.cancelled
        assert self.loop.results.keys() == finished
        for request in self.requests:
            if request.request_id in finished:
                assert self.loop.results[request.request_id] == finish_alone(request)


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=150, stateful_step_count=30)
