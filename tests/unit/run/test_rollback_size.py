"""Rollbacks of large runs are few events, and take no more time by the step than the run did."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from tests.unit.run.plans import Node, build, values

from penstock_coordinator.core.plan.model import Plan
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import ItemsReadied, StepsLeased, encode
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import AttemptEnded, Continue, Message, RollbackRun, SlotsOffered, StartRun
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState

ITEMS = 10_000


def send(run: Run, message: Message) -> Ledger:
    ledger = Ledger(run)
    decide(run, message, ledger)
    while run.unfinished:
        decide(run, Continue(0), ledger)
    return ledger


def work(run: Run) -> None:
    """All that can run completes, until nothing is left."""
    while not run.at_rest:
        ledger = send(run, SlotsOffered(1, run.demanded_lines()[0], 1, "agent", 1_000))
        seq, leased = ledger.events[-1]
        assert isinstance(leased, StepsLeased)
        for step, item, _ in leased.leases:
            send(run, AttemptEnded(2, step, item, seq, b"", 1, None))


def test_ten_thousand_items_are_undone_with_few_words() -> None:
    run = Run(build([Node("a", over=values(*range(ITEMS))), Node("u", undoes="a")]))
    send(run, StartRun(0, b"{}"))
    work(run)
    events = [event for _, event in send(run, RollbackRun(3)).events]
    assert len(encode(events)) < 1_000
    assert sum(isinstance(event, ItemsReadied) for event in events) <= ITEMS // 2_000 + 1
    work(run)
    assert run.state is RunState.ROLLED_BACK
    counts = run.item_counts(0)
    assert counts is not None
    assert counts.rolled_back == ITEMS == sum(counts)


def calls_of_work(run: Run) -> int:
    calls = 0

    def count(_frame: FrameType, _event: str, _argument: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        work(run)
    finally:
        sys.setprofile(None)
    return calls


def chain(length: int) -> Plan:
    nodes = [Node(f"s{number}", [f"s{number - 1}"] if number else []) for number in range(length)]
    return build([*nodes, *(Node(f"u{number}", undoes=f"s{number}") for number in range(0, length, 2))])


def test_a_step_of_a_long_chain_is_undone_as_quickly_as_one_of_a_short_one() -> None:
    costs = []
    for length in (20, 200):
        run = Run(chain(length))
        send(run, StartRun(0, b"{}"))
        work(run)
        send(run, RollbackRun(3))
        costs.append(calls_of_work(run) / length)
        assert run.state is RunState.ROLLED_BACK
    assert costs[1] == pytest.approx(costs[0], rel=0.15)
