"""How a line is written where people and other coordinators read it: `gpu`, or `gpu {"labels":[["zone","eu"]]}`."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock_coordinator.core.plan.model import Line

_PARTS = ("labels", "resources", "environment")


def line_name(line: Line) -> str:
    """The queue; behind it, as JSON, what else the line asks for. Equal lines have equal names."""
    more = {part: getattr(line, part) for part in _PARTS if getattr(line, part)}
    return f"{line.queue} {msgspec.json.encode(more).decode()}" if more else line.queue


def line_named(name: str) -> Line:
    """What `line_name` named. Raises `ValueError` for what it never writes."""
    queue, space, more = name.partition(" ")
    asked: dict[str, Any] = msgspec.json.decode(more) if space else {}
    try:
        return Line(
            queue,
            tuple((str(key), str(value)) for key, value in asked.pop("labels", ())),
            tuple((str(key), float(value)) for key, value in asked.pop("resources", ())),
            str(asked.pop("environment", "")),
        )
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{name!r} is no line") from error
