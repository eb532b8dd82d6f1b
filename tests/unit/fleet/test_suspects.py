"""What a dead agent may have died of, and what pays for the rest."""

from __future__ import annotations

import pytest

from penstock_coordinator.core.fleet.leases import Holder, LeaseTable, Phase
from penstock_coordinator.core.fleet.session import Held, Roll, Snapshot, expired, reunite
from penstock_coordinator.core.fleet.suspects import suspects
from penstock_coordinator.core.plan.model import Line

LINE = Line("default")
RUN = b"r" * 16
LETTERS = {"u": Phase.UNNAMED, "w": Phase.WAITING, "r": Phase.RUNNING, "f": Phase.FINISHED}


def world(spelled: str, slots: int) -> tuple[LeaseTable, Holder]:
    """One letter per lease, in the order of the grants: the phases by their first letters, `-` one not accepted."""
    table = LeaseTable(30, 5)
    holder = table.add_holder(Holder("a", 1, "boot-1", 0, slots=slots))
    for step, letter in enumerate(spelled):
        lease = table.add(holder, (RUN, step, -1), 7, 1, LINE)
        lease.sent = True
        lease.accepted = letter != "-"
        lease.phase = LETTERS.get(letter, Phase.UNNAMED)
    return table, holder


@pytest.mark.parametrize(
    ("spelled", "slots", "suspected"),
    [
        ("", 2, []),
        ("uuuu", 2, [0, 1]),
        ("u", 2, [0]),
        ("wwww", 2, [0, 1]),
        ("rruu", 2, [0, 1]),
        ("uurr", 2, [2, 3]),
        ("uuru", 2, [0, 2]),
        ("rrru", 2, [0, 1, 2]),
        ("ffuu", 1, [2]),
        ("ff", 2, []),
        ("--uu", 1, [2]),
        ("--", 2, []),
        ("uw-rf", 0, [0, 1, 3]),
    ],
)
def test_suspects_are_what_was_named_as_running_then_the_oldest(spelled: str, slots: int, suspected: list[int]) -> None:
    _, holder = world(spelled, slots)
    assert sorted(step for _, step, _ in suspects(list(holder.leases.values()), slots)) == suspected


def test_where_others_have_a_share_of_the_slots_what_was_named_as_running_alone_is_suspected() -> None:
    for spelled, suspected in (("uuru", [2]), ("uuuu", []), ("rr", [0, 1])):
        table, holder = world(spelled, 2)
        holder.hung_up = holder.shares_slots = True
        assert [loss.lease.key[1] for loss in expired(holder) if loss.boot_id] == suspected
        holder.connected = False
        back = table.add_holder(Holder("a", 2, "boot-2", 1))
        assert [loss.lease.key[1] for loss in reunite(table, back, Snapshot([])).lost if loss.boot_id] == suspected


def test_the_death_is_told_of_suspects_alone() -> None:
    _, holder = world("uu-", 1)
    holder.hung_up = True
    assert [(loss.accepted, loss.boot_id) for loss in expired(holder)] == [(True, "boot-1"), (True, ""), (False, "")]
    holder.hung_up = False
    assert {loss.boot_id for loss in expired(holder)} == {""}, "nobody knows of a death"


def test_another_process_that_comes_back_tells_of_the_death_too() -> None:
    table, _ = world("uu-", 1)
    lost = reunite(table, table.add_holder(Holder("a", 2, "boot-2", 10, slots=1)), Snapshot([])).lost
    assert [(loss.cause, loss.accepted, loss.boot_id) for loss in lost] == [
        ("agent_restarted", True, "boot-1"),
        ("agent_restarted", True, ""),
        ("grant_not_received", False, ""),
    ]


def test_the_newest_heartbeat_says_what_runs() -> None:
    table, holder = world("uuu", 1)
    keys = list(holder.leases)
    for finished, running, waiting in ((keys[0], keys[1], keys[2]), (keys[1], keys[2], keys[0])):
        named = [Held(finished, 7, True), Held(running, 7, False), Held(waiting, 7, False, waiting=True)]
        assert Roll().call(table, holder, named, 0, complete=True) == ([], [])
        assert suspects(list(holder.leases.values()), 1) == {running}


def test_a_hello_keeps_the_order_and_says_what_runs() -> None:
    table, holder = world("uuu", 2)
    first, second, third = holder.leases
    new = table.add_holder(Holder("a", 2, "boot-1", 10, slots=2))
    snapshot = [Held(first, 7, False, waiting=True), Held(second, 7, False, waiting=True), Held(third, 7, False)]
    reunite(table, new, Snapshot(snapshot))
    assert list(new.leases) == [first, second, third]
    assert suspects(list(new.leases.values()), new.slots) == {first, third}
