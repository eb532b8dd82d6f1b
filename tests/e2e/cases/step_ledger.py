"""What the steps wrote down: the truth about what ran, and when."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(.*?)(?:\[(\d+)\])?")


@dataclass(slots=True)
class Execution:
    """One execution of a step's code. Nanoseconds of the machine's monotonic clock; no end: it was killed."""

    step: str
    item: int | None
    attempt: int
    start: int
    end: int | None = None


def read_ledger(path: Path) -> list[Execution]:
    """In the order of their starts, of all runs that wrote here: one too many shows as executions too many."""
    found: dict[tuple[str, str, int | None, int], Execution] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        run, step, item, attempt, what, at = json.loads(line)
        key = (run, step, item, attempt)
        if what == "start":
            assert key not in found, f"{key} ran twice as the same attempt"
            found[key] = Execution(step, item, attempt, at)
        else:
            found[key].end = at
    return sorted(found.values(), key=lambda each: each.start)


def parted(name: str) -> tuple[str, int | None]:
    """`step` and `step[3]` as step and item."""
    assert "/" not in name, f"{name}: there are no pipelines inside of steps"
    found = _NAME.fullmatch(name)
    assert found is not None
    return found[1], None if found[2] is None else int(found[2])


def of_step(executions: list[Execution], name: str) -> list[Execution]:
    step, item = parted(name)
    return [each for each in executions if each.step == step and item in (None, each.item)]


def began(executions: list[Execution], name: str) -> int:
    return min(each.start for each in of_step(executions, name))


def ended(executions: list[Execution], name: str) -> int:
    ends = [each.end for each in of_step(executions, name)]
    assert ends, f"{name} did not run"
    assert None not in ends, f"{name} was killed"
    return max(end for end in ends if end is not None)
