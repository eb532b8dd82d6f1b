"""What events make of the states of a run and its step runs, as it is seen to happen."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock_coordinator.core.run.duties import commands
from penstock_coordinator.core.run.events import WHOLE, Event
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import Message
from penstock_coordinator.core.run.state import RETIRED, Run
from penstock_coordinator.core.run.states import StepState

NOTHING = "-"
"""In place of a state: there is no such item yet, or no more."""


class Subject(enum.Enum):
    """Whose state it is."""

    RUN = "a run"
    STEP = "a step that is not mapped"
    MAP = "a mapped step as a whole"
    ITEM = "an item of a mapped step"


class Transition(NamedTuple):
    """By names. `before` and `after` are the same where an event is about something whose state it leaves."""

    subject: Subject
    before: str
    event: str
    after: str


@dataclass
class Observations:
    transitions: set[Transition] = field(default_factory=set)
    causes: set[tuple[str, str]] = field(default_factory=set)
    """(message, event)"""
    duties: set[tuple[str, str]] = field(default_factory=set)
    """(event, command)"""
    answers: set[tuple[str, str]] = field(default_factory=set)
    """(message, command): whatever commands a turn gave."""

    def add(self, other: Observations) -> None:
        self.transitions |= other.transitions
        self.causes |= other.causes
        self.duties |= other.duties
        self.answers |= other.answers


class Watcher:
    """Sees one turn of a run, as its ledger tells of it."""

    def __init__(self, run: Run, into: Observations) -> None:
        self._run = run
        self._into = into
        self._before = _Standing(run)
        self._event: Event | None = None

    def note(self, _seq: int, event: Event) -> None:
        """For the ledger: what the former event did can be seen now."""
        self._see()
        self._event = event

    def finish(self, message: Message, ledger: Ledger) -> None:
        """The turn is over."""
        self._see()
        sent = type(message).__name__
        self._into.causes.update((sent, type(event).__name__) for _, event in ledger.events)
        self._into.answers.update((sent, type(command).__name__) for command in ledger.commands)

    def _see(self) -> None:
        event, run, into = self._event, self._run, self._into
        if event is None:
            return
        name, self._event = type(event).__name__, None
        into.transitions.update(
            Transition(whose, was, name, now) for whose, was, now in self._before.changes(run, event)
        )
        into.duties.update((name, type(command).__name__) for command in commands(run, event))
        self._before = _Standing(run)


class _Standing:
    """All states of a run at one moment."""

    def __init__(self, run: Run) -> None:
        self._run = run.state
        self._steps = bytes(run.states)
        self._items = {number: bytes(mapped.states) for number, mapped in run.maps.items()}

    def changes(self, run: Run, event: Event) -> Iterator[tuple[Subject, str, str]]:
        """Of what changed, and of what the event names. Steps that only one of two versions has changed nothing."""
        named = getattr(event, "step", None), getattr(event, "item", WHOLE)
        if run.state is not self._run or not _is_about_steps(event):
            yield Subject.RUN, self._run.name, run.state.name
        for number, (was, now) in enumerate(zip(self._steps, run.states, strict=False)):
            if RETIRED not in (was, now) and (was != now or named == (number, WHOLE)):
                subject = Subject.STEP if run.plan.steps[number].map is None else Subject.MAP
                yield subject, StepState(was).name, StepState(now).name
        for number in self._items.keys() | run.maps.keys():
            yield from self._changed_items(run, number, named[1] if named[0] == number else WHOLE)

    def _changed_items(self, run: Run, number: int, named: int) -> Iterator[tuple[Subject, str, str]]:
        before = self._items.get(number, b"")
        mapped = run.maps.get(number)
        after = mapped.states if mapped is not None else b""
        for item in range(max(len(before), len(after))):
            was, now = _state_at(before, item), _state_at(after, item)
            if was != now or item == named:
                yield Subject.ITEM, was, now


def _is_about_steps(event: Event) -> bool:
    return bool({"step", "ranges", "leases"} & set(event.__struct_fields__))


def _state_at(states: bytes | bytearray, item: int) -> str:
    return StepState(states[item]).name if item < len(states) else NOTHING
