"""Names by which letters are chosen: when there are none of them, a typo is told."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from penstock.cli.remedies import known_pipeline
from penstock.errors import NotFoundError
from penstock.names import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.client.client import Client

MOST_PIPELINES = 200
"""Of more it is not looked up whether one of them has the step."""
MOST_LETTERS = 500
_FREE = {"reason": "--failure", "error_class": "--error-class"}


async def check_known(client: Client, chosen: dict[str, Any]) -> None:
    """Raises NotFoundError if there is no such pipeline, or no such step in it, in the run, or in any pipeline."""
    if chosen["pipeline"]:
        await known_pipeline(client, chosen["pipeline"])
    if not chosen["step"]:
        return
    found = await _steps(client, chosen)
    if found is not None and chosen["step"] not in found[1]:
        where, names = found
        message = f"there is no step {chosen['step']!r} in {where}"
        raise NotFoundError(message, code="NOT_FOUND", reason="UNKNOWN_STEP", remedy=nearest(chosen["step"], names))


async def hint(client: Client, chosen: dict[str, Any], states: Iterable[Any]) -> str:
    """Of a failure's reason or class that no letter has, what those have that there are; "" if that is not it."""
    for field, option in _FREE.items():
        if not chosen[field]:
            continue
        others = {**chosen, field: ""}
        names = set()
        async for letter in client.dead_letters.list(**others, states=list(states)):
            names.add(letter.failure.reason if field == "reason" else letter.failure.error_class)
            if len(names) == MOST_LETTERS:
                break
        names.discard("")
        if names:
            return f"{option} {chosen[field]}: {nearest(chosen[field], names)}"
    return ""


async def _steps(client: Client, chosen: dict[str, Any]) -> tuple[str, set[str]] | None:
    """Where the step would have to be, and the names there; None if that is too much to look at."""
    if chosen["run_id"]:
        names = {each.step async for each in client.list_step_runs(chosen["run_id"])}
        return f"the run {chosen['run_id']}", names
    if chosen["pipeline"]:
        return f"the newest version of {chosen['pipeline']!r}", await _steps_of(client, chosen["pipeline"])
    pipelines = [each.name async for each in client.list_pipelines()]
    if len(pipelines) > MOST_PIPELINES:
        return None
    names = set(itertools.chain.from_iterable([await _steps_of(client, name) for name in pipelines]))
    return "any pipeline", names


async def _steps_of(client: Client, pipeline: str) -> set[str]:
    return {step.name for step in (await client.get_pipeline(pipeline)).version.spec.steps}
