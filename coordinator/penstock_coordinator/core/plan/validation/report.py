"""The problems that were found, bounded: a message must stay readable, and fit into the trailers of a call."""

from __future__ import annotations

from dataclasses import dataclass

from penstock_coordinator.core.plan.naming import quoted

MAX_PROBLEMS = 50
MAX_BYTES = 3_600
_MAX_DESCRIPTION = 400


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` is a path like `steps[2].retry.max_attempts`; `description` says what is wrong, and the remedy."""

    field: str
    description: str


class Enough(Exception):
    """No more problems are wanted: whoever collects them catches it."""


class Report:
    """Collects problems; the last one says so if there may be more."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._bytes = 0

    def add(self, field: str, description: str) -> None:
        """Raises `Enough` once the report is full."""
        if len(description) > _MAX_DESCRIPTION:
            description = description[: _MAX_DESCRIPTION - 3] + "..."
        size = len(field.encode(errors="replace")) + len(description.encode(errors="replace"))
        if self._bytes + size > MAX_BYTES or len(self.problems) == MAX_PROBLEMS - 1:
            self.problems.append(Problem(field, "this is wrong too, and there may be more: correct the others first"))
            raise Enough
        self.problems.append(Problem(field, description))
        self._bytes += size


def member(name: str) -> str:
    """A member's name as it stands in the path of a field."""
    if len(name) <= 80 and name.isascii() and name.isidentifier():
        return name
    shown = quoted(name)[1:-1]
    return shown if len(shown) <= 80 else shown[:77] + "..."
