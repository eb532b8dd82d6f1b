"""The items of a mapped step, once it is expanded, in packed form: a byte or a few per item, and an object for each
that is under way."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from penstock_coordinator.core.run.item_queue import ItemQueue
from penstock_coordinator.core.run.states import StepState

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Json
    from penstock_coordinator.core.run.state import ActiveStep

UNDECIDED = 0
"""In place of a state: it is not decided yet whether the group has items."""
_WITHOUT = (StepState.FAILED, StepState.SKIPPED, StepState.UPSTREAM_FAILED)
WITH_ITEMS = frozenset({StepState.PENDING, StepState.READY})
"""States in which a group gets items; perhaps none, if its list is empty."""

PackedGroups: TypeAlias = tuple[bytes, bytes, bytes]


class Groups:
    """Of a nested map: the items for one item (the owner) of the step that it goes along with are a group. Groups stand
    one behind the other, in the order in which their owners came to rest."""

    __slots__ = ("_owners", "_starts", "counts", "firsts", "states", "undecided")

    def __init__(self, owners: int) -> None:
        self.states = bytearray(owners)
        """By owner: UNDECIDED; READY or PENDING, as its items were added; or how it came to rest without items."""
        self.firsts = array("I", bytes(4 * owners))
        self.counts = array("I", bytes(4 * owners))
        self.undecided = owners
        self._starts = array("I")
        self._owners = array("I")

    def grow(self, owners: int) -> None:
        """There are so many owners more."""
        self.states += bytes(owners)
        self.firsts.frombytes(bytes(4 * owners))
        self.counts.frombytes(bytes(4 * owners))
        self.undecided += owners

    def reach(self, owner: int) -> None:
        """Have room for the owner: for those who see no more than the groups that are added."""
        if owner >= len(self.states):
            self.grow(owner + 1 - len(self.states))

    def add(self, owner: int, first: int, count: int, state: int) -> None:
        self.states[owner] = state
        self.undecided -= 1
        self.firsts[owner] = first
        self.counts[owner] = count
        if count:
            self._starts.append(first)
            self._owners.append(owner)

    def at(self, item: int) -> tuple[int, int]:
        """The owner of an item, and the item's position in its group."""
        found = bisect_right(self._starts, item) - 1
        return self._owners[found], item - self._starts[found]

    def item(self, owner: int, position: int) -> int:
        """Raises `LookupError` if the owner has no such item."""
        if not 0 <= owner < len(self.states) or not 0 <= position < self.counts[owner]:
            raise LookupError(f"no item {position} for {owner}")
        return self.firsts[owner] + position

    def span(self, owner: int) -> tuple[int, int] | None:
        """The items of the owner, first and stop; None if it came to rest without, or is not decided."""
        if self.states[owner] not in WITH_ITEMS:
            return None
        return self.firsts[owner], self.firsts[owner] + self.counts[owner]

    def itemless(self) -> Counter[StepState]:
        """How many groups are decided and have no items, by how they came to rest; COMPLETED are those of empty
        lists."""
        found = Counter({state: self.states.count(state) for state in _WITHOUT})
        found[StepState.COMPLETED] = sum(self.states.count(state) for state in WITH_ITEMS) - len(self._owners)
        return +found

    def pack(self) -> PackedGroups:
        return (zlib.compress(self.states), zlib.compress(self.firsts.tobytes()), zlib.compress(self.counts.tobytes()))

    @classmethod
    def unpack(cls, packed: PackedGroups) -> Groups:
        """What `pack` made, on a machine of the same byte order."""
        states, firsts, counts = (zlib.decompress(part) for part in packed)
        groups = cls(0)
        groups.states = bytearray(states)
        groups.firsts.frombytes(firsts)
        groups.counts.frombytes(counts)
        groups.undecided = groups.states.count(UNDECIDED)
        owners = sorted((owner for owner, count in enumerate(groups.counts) if count), key=groups.firsts.__getitem__)
        groups._owners = array("I", owners)
        groups._starts = array("I", [groups.firsts[owner] for owner in owners])
        return groups


_NONE, _PLACE, _HELD = 0, 1, 2


class Places:
    """Who may be under way at once, in a map with a limit. An item has a place from READY until it rests or waits for a
    backoff; what finds none is held: READY, and in no line's queue."""

    __slots__ = ("limit", "marks", "taken", "waiting")

    def __init__(self, limit: int, count: int) -> None:
        self.limit = limit
        self.marks = bytearray(count)
        self.taken = 0
        self.waiting = ItemQueue()

    def grow(self, count: int) -> None:
        self.marks += bytes(count)

    def take(self, first: int, stop: int) -> int:
        """Items ask for places, in order. Answers where those begin that have to wait."""
        free = min(max(self.limit - self.taken, 0), stop - first)
        self.taken += free
        self.marks[first : first + free] = bytes((_PLACE,)) * free
        self.marks[first + free : stop] = bytes((_HELD,)) * (stop - first - free)
        self.waiting.add(first + free, stop)
        return first + free

    def leave(self, item: int) -> bool:
        """The item needs no place any more. Whether it was held."""
        mark, self.marks[item] = self.marks[item], _NONE
        self.taken -= mark == _PLACE
        return mark == _HELD

    def admit(self) -> int:
        """Give a free place to who is held longest; -1 if there is no such place or nobody."""
        item = self.waiting.pop(self.marks, _HELD) if self.taken < self.limit else -1
        if item >= 0:
            self.taken += 1
            self.marks[item] = _PLACE
        return item

    def holds(self, item: int) -> bool:
        """Whether the item is READY and has to wait for a place."""
        return self.marks[item] == _HELD

    @property
    def held(self) -> int:
        return self.marks.count(_HELD)


class MapState:
    """The items of a mapped step, once it is expanded."""

    __slots__ = (
        "active",
        "count",
        "due",
        "due_owners",
        "groups",
        "kept",
        "places",
        "ready_marks",
        "ready_times",
        "remaining",
        "states",
        "tally",
        "values",
        "watchers",
    )

    def __init__(self, count: int, state: StepState, watchers: tuple[int, ...]) -> None:
        self.count = count
        self.states = bytearray((state,)) * count
        self.tally = [0] * (StepState.ROLLED_BACK + 1)
        self.tally[state] = count
        self.remaining = count
        """Items that are not at rest."""
        self.active: dict[int, ActiveStep] = {}
        self.kept: dict[int, tuple[bytes, ...]] = {}
        self.due = ItemQueue()
        """PENDING items that can be decided: whether they run, by rule and condition."""
        self.groups: Groups | None = None
        """Of a nested map."""
        self.due_owners = ItemQueue()
        """Owners at rest whose group is UNDECIDED."""
        self.places: Places | None = None
        """If the map has a limit."""
        self.ready_marks: list[tuple[int, int]] = []
        """(first item, instant): items from there on became READY then, for the first time."""
        self.ready_times: array[int] | None = None
        """In place of the marks if items become READY in any order: by item, 0 before."""
        self.watchers = watchers
        """Dependants that look at single items."""
        self.values: tuple[list[Json], ...] | None = None
        """The lists that are mapped over, once somebody asked for them; derived, so no part of the state."""

    def grow(self, count: int) -> None:
        """There are so many items more, all PENDING."""
        self.states += bytes((StepState.PENDING,)) * count
        self.tally[StepState.PENDING] += count
        self.count += count
        self.remaining += count
        if self.places is not None:
            self.places.grow(count)
        if self.ready_times is not None:
            self.ready_times.frombytes(bytes(8 * count))

    def note_ready(self, first: int, stop: int, at: int) -> None:
        """Items became READY for the first time."""
        if self.ready_times is None:
            self.ready_marks.append((first, at))
        else:
            self.ready_times[first:stop] = array("q", [at]) * (stop - first)

    def first_ready_at(self, item: int) -> int:
        """The instant at which an item, now beyond PENDING, became READY for the first time."""
        if self.ready_times is not None:
            return self.ready_times[item]
        return self.ready_marks[bisect_right(self.ready_marks, item, key=_first_item) - 1][1]

    @property
    def has_due(self) -> bool:
        """Whether there is something to decide. Forgets what is not."""
        if self.due.trim(self.states, StepState.PENDING):
            return True
        return self.groups is not None and self.due_owners.trim(self.groups.states, UNDECIDED)


def _first_item(mark: tuple[int, int]) -> int:
    return mark[0]
