"""Makes a failing schedule small: fewer faults, fewer runs, fewer machines, as long as the same check fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.shell.schedule import Report, Script, play
from tests.simulation.shell.steps import Manners


def shrink(report: Report, seconds: float = 60.0) -> Report:
    """The smallest that was found in that time."""
    name, until = check_of(report), time.monotonic() + seconds
    smaller: Report | None = report
    while smaller is not None:
        report, smaller = smaller, None
        for script in _smaller(report.script):
            if time.monotonic() > until:
                return report
            found = play(script)
            if check_of(found) == name:
                smaller = found
                break
    return report


def check_of(report: Report) -> str:
    """The name of the check that failed; empty if none did."""
    return "" if report.broken is None else str(report.broken).partition(":")[0]


def _smaller(script: Script) -> Iterator[Script]:
    """What is tried, the largest steps first."""
    if len(script.kinds) > 2:
        half = len(script.kinds) // 2
        yield replace(script, kinds=script.kinds[:half])
        yield replace(script, kinds=script.kinds[half:])
    for kind in script.kinds:
        yield replace(script, kinds=tuple(each for each in script.kinds if each != kind))
    for fewer in (script.most_faults // 8, script.most_faults // 2, script.most_faults - 1):
        if 0 < fewer < script.most_faults:
            yield replace(script, most_faults=fewer)
    for name in ("clients", "runs", "agents", "slots"):
        if (count := getattr(script, name)) > 1:
            yield replace(script, **{name: count - 1})
    if script.disorder:
        yield replace(script, disorder=0.0)
    if script.manners != Manners(failing=0.0, lazy=0.0):
        yield replace(script, manners=Manners(failing=0.0, lazy=0.0))
