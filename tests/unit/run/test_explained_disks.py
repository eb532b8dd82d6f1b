"""Agents below their disk floor are no busy agents."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Line
from penstock_coordinator.core.run.explain.agents import line_reasons
from penstock_coordinator.core.run.explain.situations import AgentSituation, LineSituation

LINE = Line("default", (), (), "")
LOW = AgentSituation("low", full=True, disk_low=True, slots=2)


def test_all_are_low() -> None:
    (reason,) = line_reasons(LINE, LineSituation((LOW,)))
    assert reason.kind == "AgentsLowOnDisk"
    assert "PENSTOCK_AGENT_DISK_FLOOR_BYTES" in reason.message


def test_one_is_low_and_one_is_busy() -> None:
    busy = AgentSituation("busy", full=True, leases=2, slots=2)
    (reason,) = line_reasons(LINE, LineSituation((LOW, busy)))
    assert reason.kind == "AgentsBusy"
    assert "low (0 under way, 2 slots, low on disk)" in reason.message
