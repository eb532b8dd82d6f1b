"""What a Hello and a heartbeat settle."""

from __future__ import annotations

import pytest

from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey, LeaseTable, left_over
from penstock_coordinator.core.fleet.session import Held, Roll, Snapshot, Verdict, is_outdated, may_go_on, reunite
from penstock_coordinator.core.plan.model import Line

LINE = Line("default")
TTL, MARGIN = 30, 5
RUN = b"r" * 16


def key(step: int) -> LeaseKey:
    return RUN, step, -1


def table() -> LeaseTable:
    return LeaseTable(TTL, MARGIN)


def granted(leases: LeaseTable, holder: Holder, step: int, token: int, *, accepted: bool = True) -> Lease:
    lease = leases.add(holder, key(step), token, 1, LINE)
    lease.sent = True
    lease.accepted = accepted
    return lease


def test_what_the_agent_still_holds_goes_on_in_its_new_session() -> None:
    leases = table()
    old = leases.add_holder(Holder("a", 1, "boot", 0))
    granted(leases, old, 0, 7)
    new = leases.add_holder(Holder("a", 2, "boot", 10))
    reunion = reunite(leases, new, Snapshot([Held(key(0), 7, finished=False)]))
    assert [verdict for _, verdict in reunion.verdicts] == [Verdict.CONTINUE]
    lease = leases.find(key(0))
    assert lease is not None
    assert lease.holder is new
    assert reunion.lost == []
    assert leases.holder(1) is None


def test_a_finished_one_is_asked_for_its_result() -> None:
    leases = table()
    old = leases.add_holder(Holder("a", 1, "boot", 0))
    granted(leases, old, 0, 7)
    new = leases.add_holder(Holder("a", 2, "boot", 10))
    reunion = reunite(leases, new, Snapshot([Held(key(0), 7, finished=True)]))
    assert [verdict for _, verdict in reunion.verdicts] == [Verdict.SEND_RESULT]


def test_an_old_attempt_is_aborted_and_its_result_still_asked_for() -> None:
    """The run alone can tell what became of it: that its end is committed is not known here."""
    leases = table()
    other = leases.add_holder(Holder("b", 1, "boot", 0))
    granted(leases, other, 0, 9)
    new = leases.add_holder(Holder("a", 2, "boot", 10))
    snapshot = [Held(key(0), 7, finished=False), Held(key(1), 3, finished=True)]
    reunion = reunite(leases, new, Snapshot(snapshot))
    assert [verdict for _, verdict in reunion.verdicts] == [Verdict.ABORT, Verdict.SEND_RESULT]
    kept = leases.find(key(0))
    assert kept is not None
    assert kept.holder is other


def test_an_accepted_lease_that_a_restarted_agent_does_not_name_was_lost_by_a_crash() -> None:
    leases = table()
    old = leases.add_holder(Holder("a", 1, "boot-1", 0))
    granted(leases, old, 0, 7)
    granted(leases, old, 1, 8, accepted=False)
    new = leases.add_holder(Holder("a", 2, "boot-2", 10))
    lost = {loss.lease.key: loss for loss in reunite(leases, new, Snapshot([])).lost}
    assert lost[key(0)].accepted
    assert not lost[key(1)].accepted
    assert lost[key(1)].unsure, "its acceptance may have been lost with the agent"
    assert len(leases) == 0


def test_a_grant_that_was_never_sent_cannot_have_started() -> None:
    leases = table()
    old = leases.add_holder(Holder("a", 1, "boot-1", 0))
    leases.add(old, key(0), 7, 1, LINE)
    (loss,) = reunite(leases, leases.add_holder(Holder("a", 2, "boot-2", 10)), Snapshot([])).lost
    assert not loss.accepted
    assert not loss.unsure


def test_of_an_older_agent_what_was_accepted_and_is_not_held_any_more_may_have_begun() -> None:
    leases = table()
    old = leases.add_holder(Holder("a", 1, "boot", 0))
    granted(leases, old, 0, 7)
    (loss,) = reunite(leases, leases.add_holder(Holder("a", 2, "boot", 10)), Snapshot([])).lost
    assert (loss.cause, loss.accepted, loss.unsure) == ("returned", False, True)


def test_what_the_agent_names_as_given_up_may_have_begun_and_the_rest_never_did() -> None:
    leases = table()
    old = leases.add_holder(Holder("a", 1, "boot", 0))
    for step in range(3):
        granted(leases, old, step, 7 + step, accepted=step != 2)
    snapshot = Snapshot([], frozenset({(key(0), 7), (key(1), 5), (key(2), 9)}), tells_given_up=True)
    lost = {
        loss.lease.key: loss for loss in reunite(leases, leases.add_holder(Holder("a", 2, "boot", 10)), snapshot).lost
    }
    assert (lost[key(0)].cause, lost[key(0)].accepted, lost[key(0)].unsure) == ("returned", False, True)
    assert (lost[key(1)].cause, lost[key(1)].unsure) == ("grant_not_received", False), "an older token was given up"
    assert lost[key(2)].unsure, "that it was accepted was lost, too"


def test_of_a_session_before_the_last_one_it_is_not_sure_which_process_had_it() -> None:
    leases = table()
    older = leases.add_holder(left_over("a", 1, (2, "boot"), 0))
    last = leases.add_holder(left_over("a", 2, (2, "boot"), 0))
    granted(leases, older, 0, 7)
    granted(leases, last, 1, 8)
    snapshot = Snapshot([], tells_given_up=True)
    lost = {
        loss.lease.key: loss for loss in reunite(leases, leases.add_holder(Holder("a", 3, "boot", 10)), snapshot).lost
    }
    assert lost[key(0)].unsure
    assert not lost[key(1)].unsure


def test_a_hello_that_is_read_after_a_newer_one_of_the_same_process_is_outdated() -> None:
    leases = table()
    leases.add_holder(Holder("a", 2, "boot", 0, stream=5))
    assert is_outdated(leases, "a", "boot", 4)
    assert not is_outdated(leases, "a", "boot", 6)
    assert not is_outdated(leases, "a", "another boot", 1)
    assert not is_outdated(leases, "a", "boot", 0), "an agent that does not say"
    assert not is_outdated(leases, "b", "boot", 4)


def test_a_grant_that_the_same_process_does_not_name_never_arrived() -> None:
    leases = table()
    old = leases.add_holder(Holder("a", 1, "boot", 0))
    granted(leases, old, 0, 7, accepted=False)
    new = leases.add_holder(Holder("a", 2, "boot", 10))
    (loss,) = reunite(leases, new, Snapshot([])).lost
    assert not loss.accepted
    assert not loss.unsure


def running(step: int, token: int) -> Held:
    return Held(key(step), token, finished=False)


def test_a_heartbeat_revokes_what_belongs_to_somebody_else() -> None:
    leases = table()
    holder = leases.add_holder(Holder("a", 1, "boot", 0))
    granted(leases, holder, 0, 7)
    revoked, lost = Roll().call(leases, holder, [running(0, 7), running(1, 3)], 0, complete=True)
    assert revoked == [running(1, 3)]
    assert lost == []


def test_what_has_ended_is_not_revoked_its_result_is_on_the_way() -> None:
    leases = table()
    holder = leases.add_holder(Holder("a", 1, "boot", 0))
    revoked, _ = Roll().call(leases, holder, [Held(key(0), 7, finished=True)], 0, complete=True)
    assert revoked == []


def test_a_lease_that_the_agent_had_read_of_and_does_not_name_is_not_held() -> None:
    leases = table()
    holder = leases.add_holder(Holder("a", 1, "boot", 0))
    roll = Roll()
    roll.next_ack()
    lease = granted(leases, holder, 0, 7)
    lease.due_ack = roll.acks + 1
    assert roll.call(leases, holder, [], 1, complete=True) == ([], []), "it had not read the grant then"
    roll.next_ack()
    _, lost = roll.call(leases, holder, [], 2, complete=True)
    assert [loss.lease.key for loss in lost] == [key(0)]
    assert leases.find(key(0)) is None


def test_a_heartbeat_in_parts_counts_when_it_is_complete() -> None:
    leases = table()
    holder = leases.add_holder(Holder("a", 1, "boot", 0))
    granted(leases, holder, 0, 7)
    granted(leases, holder, 1, 8)
    roll = Roll()
    for _ in range(3):
        roll.call(leases, holder, [running(0, 7)], 5, complete=False)
        _, lost = roll.call(leases, holder, [running(1, 8)], 5, complete=True)
        assert lost == []


def test_a_grant_that_was_not_sent_is_not_missed() -> None:
    leases = table()
    holder = leases.add_holder(Holder("a", 1, "boot", 0))
    leases.add(holder, key(0), 7, 1, LINE)
    assert Roll().call(leases, holder, [], 9, complete=True) == ([], [])


def test_leases_expire_a_ttl_and_a_margin_after_the_last_word() -> None:
    leases = table()
    holder = leases.add_holder(Holder("a", 1, "boot", 100))
    granted(leases, holder, 0, 7)
    assert leases.expired(100 + TTL + MARGIN - 1) == []
    assert leases.expired(100 + TTL + MARGIN) == [holder]
    holder.heard_at = 110
    assert leases.expired(100 + TTL + MARGIN) == []
    assert leases.next_expiry() == 110 + TTL + MARGIN


def test_the_newest_token_alone_is_in_the_table() -> None:
    leases = table()
    first = leases.add_holder(Holder("a", 1, "boot", 0))
    second = leases.add_holder(Holder("b", 2, "boot", 0))
    granted(leases, first, 0, 7)
    with pytest.raises(AssertionError):
        granted(leases, second, 0, 9)
    assert leases.end(key(0), 7) is not None, "it is ended first, so that its room is free"
    granted(leases, second, 0, 9)
    assert leases.end(key(0), 7) is None
    ended = leases.end(key(0), 9)
    assert ended is not None
    assert ended.holder is second
    assert first.leases == {}


def welcomed(leases: LeaseTable, stream: int, *, boot_id: str = "boot", lease: int | None = None) -> Holder:
    holder = leases.add_holder(Holder("a", stream, boot_id, 0, stream=stream, slots=1))
    if lease is not None:
        granted(leases, holder, lease, 7)
    return holder


def test_a_later_stream_of_the_same_process_may_go_on_with_what_the_newest_one_holds() -> None:
    leases = table()
    welcomed(leases, 1, lease=0)
    newest = welcomed(leases, 2, lease=1)
    assert may_go_on(leases, "a", "boot", 3) is newest
    assert may_go_on(leases, "a", "another boot", 3) is None
    assert may_go_on(leases, "b", "boot", 3) is None


def test_nobody_goes_on_with_nothing_or_with_what_another_incarnation_welcomed() -> None:
    leases = table()
    welcomed(leases, 1)
    assert may_go_on(leases, "a", "boot", 3) is None
    left = leases.add_holder(Holder("b", 9, "boot", 0, connected=False))
    granted(leases, left, 0, 7)
    assert may_go_on(leases, "b", "boot", 3) is None


def test_an_outdated_hello_goes_on_with_nothing() -> None:
    leases = table()
    welcomed(leases, 1, lease=0)
    welcomed(leases, 3)
    assert may_go_on(leases, "a", "boot", 2) is None
    assert may_go_on(leases, "a", "boot", 0) is None


def test_a_session_that_stands_in_is_known_by_the_committed_number() -> None:
    assert Holder("a", 5, "boot", 0).committed == 5
    assert Holder("a", -1, "boot", 0, stands_for=5).committed == 5
