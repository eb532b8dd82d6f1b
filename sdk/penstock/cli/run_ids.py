"""The run that a person means by a part of its id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.errors import ParameterError

if TYPE_CHECKING:
    from penstock.client.client import Client

NEWEST = 1_000
"""Among so many of the newest runs a part is looked for."""
SHORTEST = 8
_WHOLE = 36
_SHOWN = 3
_PART = re.compile(r"[0-9a-f-]+")


async def find_run(client: Client, text: str) -> str:
    """The whole id: of `text` itself, or of the one run among the newest that begins or ends with it.

    Ids that were given at about the same time begin alike, so the end is what tells runs apart. What cannot be a part
    of an id is left to the coordinator to refuse. Raises `ParameterError`.
    """
    part = text.lower()
    if len(part) >= _WHOLE or not _PART.fullmatch(part):
        return text
    if len(part) < SHORTEST:
        raise ParameterError(
            f"{text!r} is too short for a part of a run's id",
            field="RUN",
            remedy=f"give the first or last {SHORTEST} characters or more; `penstock list` shows ids",
        )
    found = [run.id async for run in client.list_runs(limit=NEWEST) if run.id.startswith(part) or run.id.endswith(part)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ParameterError(
            f"none of the newest {NEWEST:,} runs has an id that begins or ends with {text!r}",
            field="RUN",
            remedy="give the whole id; `penstock list` shows ids",
        )
    shown = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    raise ParameterError(
        f"{text!r} is a part of the ids of {len(found)} runs: {shown}",
        field="RUN",
        remedy=f"ids of one time begin alike: give the last {SHORTEST} characters, or more of them",
    )
