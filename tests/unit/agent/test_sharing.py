"""How several coordinators share an agent: what each gets of it, what stays empty, and what goes back unstarted."""

from __future__ import annotations

import pytest
from tests.unit.agent.shared_agent import MILLISECOND, SECOND, Owner, SharedAgent

SLOTS = 8
SPAN = 10 * SECOND
AT_FIRST = 2 * SLOTS
"""Leases that may go back until each has used what it got while nothing was to be done: not for ever."""
MANY = 1_000


def played(*owners: Owner) -> SharedAgent:
    agent = SharedAgent(SLOTS, list(owners))
    agent.play(SPAN)
    return agent


def saturated(stream: int, run_time: int) -> Owner:
    return Owner(stream, run_time, ready=MANY, more=1)


def returned(agent: SharedAgent) -> int:
    return sum(owner.returned for owner in agent.owners)


def empty(agent: SharedAgent) -> float:
    """The share of time that slots were empty while a step was ready."""
    return agent.empty / (SLOTS * SPAN)


@pytest.mark.parametrize("count", [2, 3])
def test_those_that_have_enough_get_equal_parts_and_nothing_goes_back(count: int) -> None:
    agent = played(*(saturated(stream, 300 * MILLISECOND) for stream in range(1, count + 1)))
    ended = [owner.ended for owner in agent.owners]
    assert max(ended) - min(ended) <= AT_FIRST
    assert returned(agent) == 0
    assert empty(agent) < 0.02


@pytest.mark.parametrize("idle", [1, 2])
def test_one_that_has_nothing_leaves_all_to_the_other(idle: int) -> None:
    owners = [Owner(stream, 0) if stream == idle else saturated(stream, 300 * MILLISECOND) for stream in (1, 2)]
    agent = played(*owners)
    assert agent.owners[2 - idle].ended > 0.95 * SLOTS * SPAN / (300 * MILLISECOND)
    assert empty(agent) < 0.02


def test_a_chain_beside_one_that_has_enough_goes_on_and_costs_little() -> None:
    agent = played(saturated(1, 300 * MILLISECOND), Owner(2, 300 * MILLISECOND, ready=1, more=1))
    _, chain = agent.owners
    assert chain.ended > 0.8 * SPAN / (300 * MILLISECOND)
    assert returned(agent) <= AT_FIRST
    assert empty(agent) < 0.05


def test_bursts_beside_one_that_has_enough_go_back_at_first() -> None:
    """By credits that are older than the work of the other one."""
    often = Owner(2, 300 * MILLISECOND)
    agent = SharedAgent(SLOTS, [saturated(1, 300 * MILLISECOND), often])

    def burst() -> None:
        agent.add(often, 4)
        agent.after(2 * SECOND, burst)

    burst()
    agent.play(SPAN)
    assert often.ended > 3 * SPAN // (2 * SECOND)
    assert returned(agent) <= 2 * AT_FIRST
    assert empty(agent) < 0.03


def test_short_steps_wait_and_do_not_go_back() -> None:
    agent = played(saturated(1, 20 * MILLISECOND), saturated(2, 20 * MILLISECOND))
    assert returned(agent) == 0
    assert min(owner.ended for owner in agent.owners) > 0.4 * SLOTS * SPAN / (22 * MILLISECOND)


def test_two_that_have_little_share_one_slot() -> None:
    agent = SharedAgent(1, [Owner(stream, 300 * MILLISECOND, ready=1, more=1) for stream in (1, 2)])
    agent.play(SPAN)
    first, second = (owner.ended for owner in agent.owners)
    assert abs(first - second) <= 3
    assert first + second > 0.97 * SPAN / (300 * MILLISECOND)
