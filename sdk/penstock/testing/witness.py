"""What is known of a schedule, by those who see that promises are kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.agents import AgentProcess
    from penstock.testing.coordinator import Coordinator, Timing
    from penstock.testing.executions import Execution
    from penstock.testing.journal import Store
    from penstock.testing.ownership_promises import Lease
    from penstock.testing.seats import Seat
    from penstock.testing.timeline import Timeline
    from penstock_agent.core.leases import LeaseKey
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId


class Violation(Exception):
    """A promise was broken: `invariant` is the name of the function below that says so."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what


def broken(invariant: str, what: str) -> NoReturn:
    raise Violation(invariant, what)


def spelled(key: LeaseKey) -> str:
    run_id, step, item = key
    return f"run {int.from_bytes(run_id, 'big')} step {step}" + (f"[{item}]" if item >= 0 else "")


@dataclass(slots=True)
class Granted:
    """A lease, as the journal has it."""

    attempt: int
    generation: int
    agent: str
    ended: str = ""
    """The event that ended it."""
    given_up: bool = False
    """It ended before its result came: what runs under it may go on for a while."""


@dataclass(slots=True)
class Story:
    """One step run in one generation, as the journal tells of it."""

    token: int = 0
    failures: int = 0
    losses: int = 0
    deaths: list[str] = field(default_factory=list)
    """The boots of agents that died while they ran it."""
    completed: bool = False
    at_rest: bool = False


@dataclass(slots=True)
class Shadow:
    """A run that is folded from the journal, and from nothing else."""

    run: Run
    stories: dict[tuple[int, int], Story] = field(default_factory=dict)
    ended: bool = False
    ended_at: int = 0

    def story(self, step: int, item: int) -> Story:
        found = self.stories.get((step, item))
        if found is None:
            found = self.stories[step, item] = Story()
        return found


class Witness:
    """Of the journal, of user code and of what people were told."""

    def __init__(self, timeline: Timeline, timing: Timing, plan_of: Callable[[str, Plan | None], Plan]) -> None:
        self.timeline = timeline
        self.timing = timing
        self.plan_of = plan_of
        self.store: Store | None = None
        self.shadows: dict[RunId, Shadow] = {}
        self.leases: dict[tuple[LeaseKey, int], Granted] = {}
        self.running: dict[LeaseKey, list[Execution]] = {}
        self.executed: set[tuple[RunId, int, int, int, int]] = set()
        """(run, step, item, generation, attempt)"""
        self.requests: dict[tuple[str, str], RunId] = {}
        self.epoch = 0
        """Of the newest head."""
        self.epochs: set[int] = set()
        self.session = 0
        self.turns = 0
        self.paused_agents: set[str] = set()
        """Those of which a person was told so, and that nobody has asked to go on."""
        self.events: dict[str, int] = {}
        """How many of each kind were written."""
        self.executions = 0
        self.observers: list[Callable[[Run, Any], None]] = []
        """Told of every event that is stored, with the run before it."""

        self.leases_of_owners: dict[Seat, Lease] = {}
        """Of several coordinators."""
        self.acting = 0
        """The newest epoch of a head that has acted."""
        self.lone_acted = False
        """One that was alone went on after another one had taken over."""
        self.most_lease = 0
        self.leases_waited_for = 1.5
        self.connections: dict[str, deque[int]] = {}
        """Of each agent, when it opened its last streams."""

    def agents(self) -> list[AgentProcess]:
        """Processes that live; the simulation says which."""
        return []

    @staticmethod
    def seat_of(coordinator: Coordinator) -> Seat | None:
        """The process that it is a turn of, if there are several."""
        return coordinator.seat
