"""Values that were spilled: an output is a reference to them, and what is read of the output is read of them.

`load` gives the value of a reference, or raises: `NotLoaded` where it has to be read first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from penstock_coordinator.core.plan.model import Json, Path, Step
from penstock_coordinator.core.plan.paths import NoSuchPath
from penstock_coordinator.core.plan.references import Reference, follow_through, loaded
from penstock_coordinator.core.plan.values import dump, dump_again, length_of

Load: TypeAlias = Callable[[Reference], Json]


class NotLoaded(Exception):
    """The value has to be read first."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference.digest)
        self.reference = reference


def keep_through(step: Step, value: Json, load: Load) -> tuple[bytes, ...]:
    """As `values.keep`. An output that maps and conditions do not read, only the output of the run, stays a reference.
    Raises `InvalidJson`, `BadReference`, and what `load` raises."""
    paths = tuple(_part(step, path, value, load) for path in step.kept_paths)
    return (*paths, *(dump(_length(path, value, load)) for path in step.kept_lengths))


def _part(step: Step, path: Path, value: Json, load: Load) -> bytes:
    if not path and not step.judged:
        return dump_again(value)
    try:
        return dump_again(loaded(follow_through(path, value, load), load))
    except NoSuchPath:
        return b""


def _length(path: Path, value: Json, load: Load) -> int | str:
    try:
        return length_of(loaded(follow_through(path, value, load), load))
    except NoSuchPath as error:
        return str(error)
