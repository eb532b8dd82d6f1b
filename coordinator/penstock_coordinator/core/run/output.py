"""What a run that is COMPLETED gives."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from penstock_coordinator.core.plan.model import FromStep
from penstock_coordinator.core.plan.paths import position_of
from penstock_coordinator.core.plan.values import NULL, InvalidJson, NoSuchPath, dump, dump_again, follow
from penstock_coordinator.core.run.places import gathered, item_at
from penstock_coordinator.core.run.sources import item_output, output_of
from penstock_coordinator.core.run.state import Run

_SIMPLE = re.compile(rb"null|true|false|0|-?[1-9][0-9]{0,17}|\"[ !#-\[\]-~]*\"")
"""JSON that stays as it is when it is parsed and written again: no fractions, no escapes, ASCII."""


class OutputTooLarge(Exception):
    """The run may not give so much; the text says why, and the remedy."""


def run_output(run: Run, limit: int = sys.maxsize) -> bytes | None:
    """JSON, made of what the run kept of its steps' outputs; null where a step did not complete, or has no such part.
    None: the pipeline says of no output.

    Raises `OutputTooLarge` once it is known to have more than `limit` bytes; what a large map gave is not put together
    for that.
    """
    outputs = run.plan.outputs
    if not outputs:
        return None
    if outputs[0][0] == "":
        whole = _part(run, outputs[0][1], limit)
    else:
        members: list[bytes] = []
        left = limit
        for name, source in outputs:
            members.append(dump(name) + b":" + _part(run, source, left))
            left -= len(members[-1])
            if left < 0:
                raise _too_large(limit)
        whole = b"{" + b",".join(members) + b"}"
    if len(whole) > limit:
        raise _too_large(limit)
    return whole


def _too_large(limit: int) -> OutputTooLarge:
    return OutputTooLarge(
        f"OutputTooLarge: the output of the run has more than {limit:,} bytes, the most that it may have: write large"
        " values to files or a store and return their place, or have the operator raise PENSTOCK_MAX_RUN_OUTPUT_SIZE"
    )


def _part(run: Run, source: FromStep, limit: int) -> bytes:
    try:
        if source.step not in run.maps:
            kept = run.kept.get(source.step)
            if kept is not None and not source.path and _is_whole(run, source.step) and _SIMPLE.fullmatch(kept[0]):
                return kept[0]
            return dump_again(follow(source.path, output_of(run, source.step)))
        if not source.path:
            return _list_of_items(run, source.step, limit)
        return _part_of_items(run, source.step, source.path)
    except (InvalidJson, NoSuchPath):
        return NULL


def _is_whole(run: Run, step: int) -> bool:
    """Whether what the run kept of the step's output is the output."""
    return run.plan.steps[step].kept_paths == ((),)


def _list_of_items(run: Run, step: int, limit: int) -> bytes:
    """Item by item: of a list that is too long nothing but its beginning is made."""
    parts: list[bytes] = []
    size = 0
    for item in range(run.maps[step].count):
        parts.append(dump_again(item_output(run, step, item)))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
    return gathered(run.plan, run, step, parts, lambda some: b"[" + b",".join(some) + b"]", NULL)


def _part_of_items(run: Run, step: int, path: Sequence[str]) -> bytes:
    depth = run.plan.steps[step].depth
    if len(path) < depth:
        return dump_again(follow(path, output_of(run, step)))
    place = [position for member in path[:depth] if (position := position_of(member)) is not None]
    try:
        item = item_at(run.plan, run, step, place) if len(place) == depth else None
    except LookupError:
        item = None
    return NULL if item is None else dump_again(follow(path[depth:], item_output(run, step, item)))
