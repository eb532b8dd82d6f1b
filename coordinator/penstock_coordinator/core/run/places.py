"""Where an item is: the numbers of items, which count through all levels of a map, and the places that people see.

In a map over a list the two are the same. In a nested map the place is the owner's place and the position in the list
that the owner gave; items are numbered in the order in which their owners came to rest. A step that goes along with
another one item by item has the places of that one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from penstock_coordinator.core.plan.model import Plan
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.mapped import Groups
from penstock_coordinator.core.run.numbering import Numbering, Place

_T = TypeVar("_T")


class Shaped(Protocol):
    """What knows the shapes of maps: a run, or its summary."""

    def items_of(self, step: int) -> bytes | bytearray | None: ...

    def groups_of(self, step: int) -> Groups | None:
        """Of a nested map that is expanded."""

    @property
    def numberings(self) -> Mapping[int, Numbering]:
        """Of mapped steps that were reset."""


class _Flat:
    """No map is nested."""

    def items_of(self, _step: int) -> None:
        return None

    def groups_of(self, _step: int) -> None:
        return None

    @property
    def numberings(self) -> Mapping[int, Numbering]:
        return {}


FLAT = _Flat()
"""For plans that do not `nest`: there places are numbers."""


def nests(plan: Plan) -> bool:
    """Whether places hang on what has happened in the run."""
    return any(step.depth > 1 for step in plan.steps)


def place_of(plan: Plan, shaped: Shaped, step: int, item: int) -> Place:
    """Of an item that is there."""
    if item == WHOLE:
        return ()
    place: list[int] = []
    for number in _nested(plan, step):
        groups = shaped.groups_of(number)
        assert groups is not None
        item, position = groups.at(item)
        place.append(position)
    return (item, *reversed(place))


def item_at(plan: Plan, shaped: Shaped, step: int, place: Sequence[int]) -> int:
    """The number of the item at the place; WHOLE for (). Raises `LookupError` if there is none (yet)."""
    if not place:
        return WHOLE
    if len(place) != plan.steps[step].depth:
        raise LookupError(f"{len(place)} numbers are no place in the step")
    item = place[0]
    for number, position in zip(reversed(_nested(plan, step)), place[1:], strict=True):
        groups = shaped.groups_of(number)
        if groups is None:
            raise LookupError("not expanded")
        item = groups.item(item, position)
    states = shaped.items_of(step)
    if states is None or not 0 <= item < len(states):
        raise LookupError(f"no item {item}")
    return item


def spelled_place(place: Place) -> str:
    """ "[0][3]"; nothing for the step as a whole."""
    return "".join(f"[{position}]" for position in place)


def display_name(plan: Plan, shaped: Shaped, step: int, item: int) -> str:
    """ "step", "step[3]" or "step[0][3]"."""
    return plan.steps[step].name + spelled_place(place_of(plan, shaped, step, item))


def same_group(plan: Plan, shaped: Shaped, step: int, first: int, stop: int) -> int:
    """Where the items from `first` on, but before `stop`, stop to differ in the last number of their places alone."""
    nested = _nested(plan, step)
    if not nested:
        return stop
    groups = shaped.groups_of(nested[0])
    assert groups is not None
    owner, position = groups.at(first)
    return min(stop, first - position + groups.counts[owner])


def gathered(plan: Plan, shaped: Shaped, step: int, items: list[_T], join: Callable[[list[_T]], _T], nothing: _T) -> _T:
    """The items of an expanded step put together as they are nested, in the order of their places. `nothing` stands for
    a group without items that had no list."""
    for number in _nested(plan, step):
        groups = shaped.groups_of(number)
        assert groups is not None
        spans = [groups.span(owner) for owner in range(len(groups.states))]
        items = [nothing if span is None else join(items[slice(*span)]) for span in spans]
    return join(items)


def _nested(plan: Plan, step: int) -> list[int]:
    """The nested maps whose groups give the step its places, innermost first."""
    found: list[int] = []
    if plan.steps[step].shape < 0:
        return found
    shape = plan.steps[plan.steps[step].shape]
    while shape.followed is not None:
        found.append(shape.number)
        shape = plan.steps[plan.steps[shape.followed].shape]
    return found
