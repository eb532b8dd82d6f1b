"""What docs/metrics.md says that there is."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import ProcessCollector
from tests.unit.ownership.test_keeping_members import Company

from penstock_agent.runtime.metrics import AGENT
from penstock_coordinator.api.metrics.declared import COORDINATOR
from penstock_coordinator.api.metrics.page import role_of
from penstock_coordinator.api.metrics.place import Place
from penstock_coordinator.api.metrics.queues import MOST_QUEUES, OTHER, QueueState, bounded

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
_ROW = re.compile(r"^\| `((?:penstock|process)_\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", re.M)


def listed(begins: str, without: str = "-") -> list[tuple[str, str, tuple[str, ...], str]]:
    rows = _ROW.findall(PAGE.read_text())
    return [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
        if name.startswith(begins) and not name.startswith(without)
    ]


def test_the_page_lists_the_metrics_of_the_coordinator_word_for_word() -> None:
    assert listed("penstock_", without="penstock_agent_") == [tuple(metric) for metric in COORDINATOR]


def test_the_page_lists_the_metrics_of_an_agent_word_for_word() -> None:
    assert listed("penstock_agent_") == [tuple(metric) for metric in AGENT]


def test_the_page_lists_those_of_the_process() -> None:
    there = {(family.name, family.type) for family in ProcessCollector(registry=None).collect()}
    assert {(name.removesuffix("_total"), kind) for name, kind, _, _ in listed("process_")} == there


def test_names_follow_the_habits() -> None:
    names = [metric.name for metric in COORDINATOR]
    assert len(set(names)) == len(names)
    families = [name.removesuffix("_total") for name in names]
    assert len(set(families)) == len(families), "in OpenMetrics two families have the same name"
    assert all(metric.name.endswith("_total") is (metric.kind == "counter") for metric in COORDINATOR)


def test_of_many_queues_the_first_ones_by_name_are_told_apart() -> None:
    queues = {f"q{number:03}": QueueState(1, 2, float(number), 3, 4) for number in range(150)}
    found = bounded(queues)
    assert list(found) == [*sorted(queues)[:MOST_QUEUES], OTHER]
    assert found["q000"] == QueueState(1, 2, 0.0, 3, 4)
    assert found[OTHER] == QueueState(50, 100, 149.0, 150, 200)


def test_a_queue_that_is_called_as_the_rest_counts_with_it() -> None:
    assert bounded({OTHER: QueueState(depth=1), "a": QueueState(depth=2)}) == {
        "a": QueueState(depth=2),
        OTHER: QueueState(depth=1),
    }


async def test_a_member_is_not_told_as_the_owner_of_the_runs() -> None:
    """Alerts ask how many owners there are, and mean heads."""
    company, owning = Company(), object()
    try:
        head, member = await company.head("a"), await company.member("b")
        follower = await company.node("c", joins=lambda head: False)
        told = [
            role_of(Place(supervisor=owning, keeper=head.keeper)),  # type: ignore[arg-type]  # nobody looks at it
            role_of(Place(supervisor=owning, keeper=member.keeper)),  # type: ignore[arg-type]  # likewise
            role_of(Place(keeper=follower.keeper)),
            role_of(Place(supervisor=owning)),  # type: ignore[arg-type]  # likewise
        ]
    finally:
        await company.close()
    assert told == ["head", "member", "follower", "head"]
