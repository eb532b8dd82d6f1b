"""The numbers under which attempts and lines of items are kept.

Such a number belongs to the place of an item for ever. While a nested map has its first lists it is the item's own
number. When the map is reset, its items are numbered anew in the order in which lists come: a place that was there
before has its kept number again, and a new one the next that is free.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from penstock_coordinator.core.run.events import WHOLE

Place: TypeAlias = tuple[int, ...]
"""Outermost first; () is the step as a whole."""


class _Packed(msgspec.Struct, array_like=True):
    places: list[Place]
    numbers: list[int]


_decode = msgspec.msgpack.Decoder(_Packed).decode


class Numbering:
    """Of a mapped step that was reset."""

    __slots__ = ("_known", "former", "numbers", "places", "since")

    def __init__(self, places: Iterable[Place] = (), since: int = 0) -> None:
        """The items that had these places are no more."""
        self.places = list(places)
        """By kept number, also of items that are not there now."""
        self.numbers = array("I")
        """The kept number of each item, as they are now."""
        self.former: array[int] | None = None
        """They, before the last reset; None: the items' own."""
        self.since = since
        """The number of the event that reset the map: tokens below it are of former items."""
        self._known = {place: number for number, place in enumerate(self.places)}

    def begin_anew(self, seq: int) -> None:
        """The items that are there are no more."""
        self.former, self.since, self.numbers = self.numbers, seq, array("I")

    def add(self, places: Iterable[Place]) -> None:
        """So many items more."""
        for place in places:
            number = self._known.setdefault(place, len(self.places))
            if number == len(self.places):
                self.places.append(place)
            self.numbers.append(number)

    def kept(self, item: int, token: int) -> int:
        """The kept number of the item that had the token."""
        if token >= self.since:
            return self.numbers[item]
        return item if self.former is None else self.former[item]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Numbering):
            return NotImplemented
        return (self.places, self.numbers, self.former, self.since) == (
            other.places,
            other.numbers,
            other.former,
            other.since,
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def pack(self) -> bytes:
        return zlib.compress(msgspec.msgpack.encode(_Packed(self.places, self.numbers.tolist())))

    @classmethod
    def unpack(cls, packed: bytes) -> Numbering:
        """For readers: what is there now."""
        found, numbering = _decode(zlib.decompress(packed)), cls()
        numbering.places, numbering.numbers = found.places, array("I", found.numbers)
        return numbering


def kept_number(numberings: Mapping[int, Numbering], step: int, item: int, token: int | None = None) -> int:
    """The number under which the item's attempts and lines are kept; of the item that had the token, if one is given.
    Raises `LookupError` for an item that is not there."""
    if item == WHOLE or not numberings:
        return item
    numbering = numberings.get(step)
    if numbering is None:
        return item
    return numbering.numbers[item] if token is None else numbering.kept(item, token)


def kept_place(numberings: Mapping[int, Numbering], step: int, kept: int) -> Place | None:
    """The place that a kept number belongs to; None if it is the item's own number."""
    numbering = None if kept == WHOLE else numberings.get(step)
    return None if numbering is None else numbering.places[kept]
