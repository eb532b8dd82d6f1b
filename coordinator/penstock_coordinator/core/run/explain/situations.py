"""What is known beyond a run, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from penstock_coordinator.core.plan.budget import Measure, Per
from penstock_coordinator.core.plan.model import Json, Lack
from penstock_coordinator.core.run.states import StepState


class Reason(NamedTuple):
    """`kind` is one of those that the proto's Reason lists."""

    kind: str
    message: str
    details: dict[str, Json]


@dataclass(frozen=True, slots=True)
class AgentSituation:
    agent: str
    lacks: tuple[Lack, ...] = ()
    """Empty: it serves the line."""
    draining: bool = False
    full: bool = False
    leases: int = 0
    slots: int = 0
    disk_low: bool = False
    """It takes no work, because less disk is free than its floor."""
    paused: bool = False
    """By a person."""
    left: bool = False
    """It said goodbye: it was drained, or stopped."""


@dataclass(frozen=True, slots=True)
class LineSituation:
    """What stands between a step run that is READY and an agent."""

    agents: tuple[AgentSituation, ...] = ()
    """All that are connected, and those that have left."""
    ahead: int = 0
    """Places that are waited for by others who come first."""
    priority: int = 0
    """Of the run and the step."""
    effective_priority: int = 0
    """With what waiting has added."""
    member: str = ""
    """The coordinator that has the run, if it is a member: agents are those that are linked with it."""


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who holds a place under a keyed limit."""

    run_id: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class KeySituation:
    key: str
    limit: int
    holders: tuple[KeyHolder, ...] = ()
    ahead: int = 0
    """Others who wait for the key and come first."""


@dataclass(frozen=True, slots=True)
class WindowSituation:
    """Of the budget that the runs of a pipeline have in a day, a week or a month: nothing is left of it."""

    pipeline: str
    per: Per
    measure: Measure
    used: int
    limit: int
    until: int
    """When the next one begins."""


class Outside(Protocol):
    """What is known beyond the run. Asked only for what is needed."""

    now: int
    queued_open_at: int
    """Until then agents are expected back after the coordinator's start."""

    def line(self, position: int) -> LineSituation: ...

    def step_key(self, position: int) -> KeySituation | None:
        """The keyed limit that keeps step runs of this position of the plan's lines from being leased."""

    def child_state(self, run_id: bytes) -> str:
        """The state of the run that a step run waits for; empty: not known."""

    def child_key(self, run_id: bytes) -> KeySituation | None:
        """The limit that keeps the run that a step run waits for from beginning."""

    def child_over_budget(self, run_id: bytes) -> bool:
        """Whether nothing of the run that a step run waits for starts, because its budget is used."""

    def run_key(self) -> KeySituation | None:
        """The limit that keeps the run from beginning."""

    def window(self) -> WindowSituation | None:
        """The budget of its pipeline that keeps the run from beginning."""

    def lacks_secret(self, name: str) -> bool:
        """Whether the coordinator keeps none of that name. What agents have of their own it does not know."""

    def note(self, step: int, item: int) -> str:
        """What an attempt that is leased, and has not begun, waits for on its agent; empty: nothing is said."""


@dataclass(slots=True)
class Unknown:
    """Of a run that is looked at as it was, or whose coordinator is elsewhere: nothing is known beyond it."""

    now: int
    queued_open_at: int = 0

    def line(self, _position: int) -> LineSituation:
        return LineSituation()

    def step_key(self, _position: int) -> KeySituation | None:
        return None

    def child_state(self, _run_id: bytes) -> str:
        return ""

    def child_key(self, _run_id: bytes) -> KeySituation | None:
        return None

    def child_over_budget(self, _run_id: bytes) -> bool:
        return False

    def run_key(self) -> KeySituation | None:
        return None

    def window(self) -> WindowSituation | None:
        return None

    def lacks_secret(self, _name: str) -> bool:
        return False

    def note(self, _step: int, _item: int) -> str:
        return ""


@dataclass(slots=True)
class StepExplanation:
    """`count` items from `item` on are held by the same reasons."""

    step: int
    item: int
    state: StepState
    reasons: list[Reason] = field(default_factory=list)
    count: int = 1
