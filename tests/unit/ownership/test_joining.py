"""Who becomes a member, and who follows though it could."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from tests.unit.ownership.test_keeping import SteadyClock

from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.runtime.joining import STAYS_OUT, JoinGate


class MovedClock(SteadyClock):
    def __init__(self) -> None:
        self.time = super().monotonic()

    def monotonic(self) -> int:
        return self.time


def head(epoch: int = 5) -> CoordinatorRow:
    return CoordinatorRow(
        "h", OwnershipState.OWNER, epoch, 0, 3_000, "h:7400", "", 1, head_epoch=epoch, secrets_key="k1"
    )


def gate(*, wanted: bool = True, unfit: str = "", secrets_key: str = "k1", clock: MovedClock | None = None) -> JoinGate:
    return JoinGate(clock or MovedClock(), wanted=wanted, unfit=unfit, secrets_key=secrets_key)


def test_one_that_is_to_join_does_and_others_never_do() -> None:
    assert gate()(head())
    with capture_logs() as said:
        assert not gate(wanted=False, unfit="a local disk")(head())
    assert said == [], "nobody has asked for it"


@pytest.mark.parametrize(
    ("made", "words"), [(gate(unfit="a local disk"), "a local disk"), (gate(secrets_key=""), "PENSTOCK_SECRETS_KEY")]
)
def test_whoever_is_unfit_says_why_once(made: JoinGate, words: str) -> None:
    with capture_logs() as said:
        assert not made(head())
        assert not made(head())
    (line,) = said
    assert line["event"] == "does_not_join"
    assert words in line["reason"]


def test_one_that_was_told_to_leave_a_head_comes_back_to_another_one_at_once_and_to_it_after_a_while() -> None:
    clock = MovedClock()
    made = gate(clock=clock)
    made.stay_out(5)
    assert not made(head(5))
    assert made(head(6))
    clock.time += STAYS_OUT + 1
    assert made(head(5))
