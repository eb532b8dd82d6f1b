"""Walking down into JSON values by paths."""

from __future__ import annotations

from collections.abc import Sequence

from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.plan.naming import quoted


class NoSuchPath(Exception):
    """The path leads nowhere; the message says where it ends and what is there."""


def follow(path: Sequence[str], value: Json) -> Json:
    """What is at the path: `()` is the value itself. Positions in lists are decimals without leading zeros; objects
    take them as names of members. Raises `NoSuchPath`."""
    for depth, member in enumerate(path):
        if type(value) is dict:
            if member not in value:
                raise NoSuchPath(_nothing(path, depth, _object(value)))
            value = value[member]
        elif type(value) is list:
            position = position_of(member)
            if position is None or position >= len(value):
                raise NoSuchPath(_nothing(path, depth, _list(value)))
            value = value[position]
        else:
            raise NoSuchPath(_nothing(path, depth, _plain(value)))
    return value


def position_of(member: str) -> int | None:
    """The position in a list that a member of a path names, if it names one."""
    if member.isascii() and member.isdecimal() and (member == "0" or member[0] != "0") and len(member) <= 18:
        return int(member)
    return None


def _nothing(path: Sequence[str], depth: int, found: str) -> str:
    place = ".".join(member[:40] for member in path[:depth])
    where = f"at {quoted(place)} is" if place else "it is"
    return f"there is no {quoted(path[depth])}: {where} {found}"


def _object(value: dict[str, Json]) -> str:
    if not value:
        return "an object without members"
    names = [quoted(name) for name in sorted(value)[:5]]
    more = f" and {len(value) - 5} more" if len(value) > 5 else ""
    return f"an object with {', '.join(names)}{more}"


def _list(value: list[Json]) -> str:
    return f"a list of {len(value)}, counted from 0" if value else "an empty list"


def _plain(value: Json) -> str:
    if value is None:
        return "null"
    return "a text" if type(value) is str else "true or false" if type(value) is bool else "a number"
