"""What the evaluator says of steps, items and runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tests.e2e.random_dags.dags import Json

Place: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """A step, an item, or the items that a mapped step has below one place."""

    state: str
    """Of a group of items below the top: in which it came to rest without items, else empty. That of an empty list is
    COMPLETED."""
    output: Json = None
    attempts: int | None = 0
    """None: nobody can tell."""
    reason: str = ""
    parts: tuple[Part, ...] | None = None
    """Of a mapped step, and a group, that got a list."""
    group: bool = False
    """It stands for items, also if there are none."""
    child: Prediction | None = None
    """Of a step that is a run: the newest one."""

    @property
    def value(self) -> Json:
        """For those who read it: a list once there are items, null of what did not complete."""
        if self.parts is not None:
            return [each.value for each in self.parts]
        return self.output if self.state == "COMPLETED" else None

    def walk(self, place: Place = ()) -> Iterator[tuple[Place, Part]]:
        """Items, and groups without items."""
        if self.parts is None or (place and not self.parts):
            yield place, self
            return
        for position, part in enumerate(self.parts):
            yield from part.walk((*place, position))

    def at(self, place: Place) -> Part | None:
        found: Part = self
        for position in place:
            if found.parts is None or position >= len(found.parts):
                return None
            found = found.parts[position]
        return found

    @property
    def items(self) -> dict[Place, Part]:
        """Only what has a step run."""
        return {} if self.parts is None else {place: part for place, part in self.walk() if not part.group}


@dataclass(frozen=True)
class Prediction:
    """A run at rest."""

    state: str
    output: Json
    steps: dict[str, Part]
    used: dict[tuple[str, Place], int] = field(default_factory=dict)
    """Numbers of attempts that are taken."""
