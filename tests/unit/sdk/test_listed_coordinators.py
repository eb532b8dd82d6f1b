"""What the command line says of coordinators, and whom it has take the runs over."""

from __future__ import annotations

import pytest

from penstock.cli.coordinators import choice, show
from penstock.cli.session import Session
from penstock.v1 import coordinator_service_pb2 as pb

OWNER, FOLLOWER = pb.COORDINATOR_ROLE_OWNER, pb.COORDINATOR_ROLE_FOLLOWER
MEMBER = pb.COORDINATOR_ROLE_MEMBER


def _coordinator(name: str, role: pb.CoordinatorRole.ValueType, *, late: bool = False) -> pb.Coordinator:
    state = pb.COORDINATOR_LEASE_STATE_LATE if late else pb.COORDINATOR_LEASE_STATE_CURRENT
    return pb.Coordinator(id=name, role=role, lease_state=state, live_runs=1_500)


def _rows(capsys: pytest.CaptureFixture[str], *found: pb.Coordinator) -> list[str]:
    show(Session(None, as_json=False), found)
    return capsys.readouterr().out.splitlines()[1:]


def test_beside_members_the_owner_is_the_head_and_each_tells_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = _rows(capsys, _coordinator("a", OWNER), _coordinator("b", MEMBER), _coordinator("c", FOLLOWER))
    assert (a.split()[:2], b.split()[:2], c.split()[:2]) == (["a", "head"], ["b", "member"], ["c", "follower"])
    assert ["1,500 runs" in row for row in (a, b, c)] == [True, True, False]


def test_without_members_it_is_the_owner(capsys: pytest.CaptureFixture[str]) -> None:
    a, _ = _rows(capsys, _coordinator("a", OWNER), _coordinator("b", FOLLOWER))
    assert a.split()[:2] == ["a", "owner"]


def test_one_that_follows_and_is_heard_of_comes_before_a_member() -> None:
    late, member, follower = (
        _coordinator("late", FOLLOWER, late=True),
        _coordinator("member", MEMBER),
        _coordinator("follower", FOLLOWER),
    )
    owner = _coordinator("owner", OWNER)
    assert choice([owner, late, member, follower]) == follower
    assert choice([owner, late, member]) == member
    assert choice([owner, late]) is None
