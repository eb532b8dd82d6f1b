"""The states of all step runs of a run in a few bytes, so that an ended run is listed without folding its journal."""

from __future__ import annotations

import zlib

import msgspec

from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.mapped import Groups, PackedGroups
from penstock_coordinator.core.run.numbering import Numbering
from penstock_coordinator.core.run.openings import Opening, began_in
from penstock_coordinator.core.run.state import StepCounts
from penstock_coordinator.core.run.states import StepState


class _Packed(msgspec.Struct, array_like=True):
    states: bytes
    items: dict[int, bytes]
    groups: dict[int, PackedGroups] = {}
    openings: tuple[Opening, ...] = ()
    lineage: tuple[str, ...] = ()
    numberings: dict[int, bytes] = {}


_COMPRESSED = b"\x78"
"""What begins so is compressed, as all that `zlib.compress` makes: it is neither a state nor RETIRED."""

_decode = msgspec.msgpack.Decoder(_Packed).decode


class Summary:
    """The states of a run's step runs at one moment."""

    def __init__(
        self,
        states: bytes,
        items: dict[int, bytes],
        groups: dict[int, Groups],
        openings: tuple[Opening, ...] = (),
        lineage: tuple[str, ...] = (),
        numberings: dict[int, Numbering] | None = None,
    ) -> None:
        self.numberings = numberings or {}
        self._states = states
        self._openings = openings
        self._items = items
        self._groups = groups
        self.lineage = lineage
        """As in `Plan`: what the numbers of the steps hang on."""

    def state_of(self, step: int, item: int = WHOLE) -> StepState:
        """Raises `LookupError` for an item that is not there."""
        return StepState(self._states[step] if item == WHOLE else self._items[step][item])

    def items_of(self, step: int) -> bytes | None:
        """The states of a mapped step's items; None if it was not expanded."""
        return self._items.get(step)

    def groups_of(self, step: int) -> Groups | None:
        """Of a nested map; None if it was not expanded."""
        return self._groups.get(step)

    def began_in(self, step: int, item: int = WHOLE) -> int:
        """As `Run.began_in`."""
        return began_in(self._openings, step, item)

    def item_counts(self, step: int) -> StepCounts | None:
        items = self._items.get(step)
        return None if items is None else _count([items])

    def counts(self) -> StepCounts:
        """As `Run.counts`."""
        plain = bytes(state for step, state in enumerate(self._states) if step not in self._items)
        return _count([plain, *self._items.values()])


def unpack(packed: bytes) -> Summary:
    """What `Run.pack` made. Raises `msgspec.DecodeError` or `zlib.error` for anything else."""
    found = _decode(packed)
    items = {step: zlib.decompress(states) for step, states in found.items.items()}
    groups = {step: Groups.unpack(packed) for step, packed in found.groups.items()}
    states = found.states
    if states[:1] == _COMPRESSED:
        states = zlib.decompress(states)
    numberings = {step: Numbering.unpack(packed) for step, packed in found.numberings.items()}
    return Summary(states, items, groups, found.openings, found.lineage, numberings)


def _count(parts: list[bytes]) -> StepCounts:
    return StepCounts(*(sum(part.count(state) for part in parts) for state in StepState))
