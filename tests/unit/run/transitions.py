"""What events make of the states of a run and its step runs, as it is seen to happen."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from penstock_coordinator.core.run.duties import commands
from penstock_coordinator.core.run.events import WHOLE, Event
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import Message
from penstock_coordinator.core.run.state import RETIRED, Run
from penstock_coordinator.core.run.states import StepState

NOTHING = "-"
"""In place of a state: there is no such item yet, or no more."""
NOBODY = -2
"""The event names no step run as such."""
_NAMES = {int(state): state.name for state in StepState}


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
        for whose, was, now in self._before.follow(run, event):
            into.transitions.add(Transition(whose, was, name, now))
        into.duties.update((name, type(command).__name__) for command in commands(run, event))


class _Standing:
    """All states of a run at one moment."""

    def __init__(self, run: Run) -> None:
        self._run = run.state
        self._steps = bytes(run.states)
        self._items = {number: bytes(mapped.states) for number, mapped in run.maps.items()}

    def follow(self, run: Run, event: Event) -> Iterator[tuple[Subject, str, str]]:
        """To the moment after the event: (whose, before, after) of what changed, and of what the event names.
        Steps that only one of two versions has changed nothing."""
        step, item = getattr(event, "step", NOBODY), getattr(event, "item", WHOLE)
        if run.state is not self._run or not _is_about_steps(type(event)):
            yield Subject.RUN, self._run.name, run.state.name
            self._run = run.state
        yield from self._follow_steps(run, step if item == WHOLE else NOBODY)
        for number in self._items.keys() | run.maps.keys():
            yield from self._follow_items(run, number, item if step == number else NOBODY)

    def _follow_steps(self, run: Run, named: int) -> Iterator[tuple[Subject, str, str]]:
        before, after = self._steps, run.states
        for number in _places(before, after, min(len(before), len(after)), named):
            was, now = before[number], after[number]
            if was != RETIRED != now:
                subject = Subject.STEP if run.plan.steps[number].map is None else Subject.MAP
                yield subject, _NAMES[was], _NAMES[now]
        if before != after:
            self._steps = bytes(after)

    def _follow_items(self, run: Run, number: int, named: int) -> Iterator[tuple[Subject, str, str]]:
        mapped = run.maps.get(number)
        before, after = self._items.get(number, b""), b"" if mapped is None else mapped.states
        for place in _places(before, after, max(len(before), len(after)), named):
            yield Subject.ITEM, _state_at(before, place), _state_at(after, place)
        if before != after:
            self._items[number] = bytes(after)


def _places(before: bytes, after: bytes | bytearray, stop: int, named: int) -> Iterable[int]:
    """Those before `stop` at which something has changed, and the named one. Most events change one or none."""
    if before == after:
        return (named,) if 0 <= named < stop else ()
    return [at for at in range(stop) if at == named or before[at : at + 1] != after[at : at + 1]]


@cache
def _is_about_steps(kind: type[Event]) -> bool:
    return bool({"step", "ranges", "leases"} & set(kind.__struct_fields__))


def _state_at(states: bytes | bytearray, item: int) -> str:
    return _NAMES[states[item]] if item < len(states) else NOTHING
