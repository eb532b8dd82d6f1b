"""Step runs that ask for more memory than their step does, because they ran out of it.

They wait in lines of the run's own, which come after those of its plan: a line of the plan with more memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from penstock_coordinator.core.plan.model import Line, Plan

MEMORY = "memory_bytes"


class RaisedLine(NamedTuple):
    base: int
    """Position in the plan's lines."""
    memory_bytes: int
    wanted_bytes: int
    """More than `memory_bytes`: no agent has so much."""


class Raised:
    """Positions never change while the run goes on with the same version."""

    __slots__ = ("_first", "_lines", "_made", "_positions")

    def __init__(self, plan: Plan) -> None:
        self._first = len(plan.lines)
        self._lines: list[RaisedLine] = []
        self._made: list[Line] = []
        self._positions: dict[tuple[int, int], int] = {}

    def put(self, plan: Plan, step: int, item: int, line: RaisedLine) -> None:
        """The step run waits in that line from now on."""
        if line not in self._lines:
            self._lines.append(line)
            self._made.append(_with_memory(plan.lines[line.base], line.memory_bytes))
        self._positions[step, item] = self._first + self._lines.index(line)

    def forget(self, step: int, item: int) -> None:
        """The step run is at rest."""
        self._positions.pop((step, item), None)

    def position(self, step: int, item: int, base: int) -> int:
        return self._positions.get((step, item), base)

    def at(self, position: int) -> RaisedLine | None:
        """None: it is a line of the plan."""
        return self._lines[position - self._first] if position >= self._first else None

    def line(self, position: int) -> Line:
        """Of a position that is none of the plan's."""
        return self._made[position - self._first]


def memory_of(line: Line) -> int:
    """What a step of the line asks for; 0: nothing."""
    return next((int(amount) for name, amount in line.resources if name == MEMORY), 0)


def _with_memory(line: Line, memory_bytes: int) -> Line:
    resources = tuple((name, float(memory_bytes) if name == MEMORY else amount) for name, amount in line.resources)
    return replace(line, resources=resources)
