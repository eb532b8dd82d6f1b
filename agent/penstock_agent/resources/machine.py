"""What the agent has to give to steps: what it announces, and never gives twice."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from penstock_agent.resources import cgroups, gpus

CPU, MEMORY, GPU = "cpu", "memory_bytes", "gpu"


@dataclass(frozen=True, slots=True)
class Machine:
    """`resources` is announced; `devices` are as many as the whole of `gpu`, or more than it."""

    resources: dict[str, float]
    devices: tuple[str, ...]


def cores() -> float:
    """Those that this process may use, by its affinity and by its control groups."""
    own = float(len(os.sched_getaffinity(0)))
    limit = cgroups.limits().cpu
    return own if limit is None else min(own, limit)


def whole_cores() -> int:
    """At least one."""
    return max(math.ceil(cores()), 1)


def memory() -> int:
    """Bytes: of the machine, or of the tightest control group."""
    own = psutil.virtual_memory().total
    limit = cgroups.limits().memory_bytes
    return own if limit is None else min(own, limit)


def look(given: Mapping[str, float], devices: tuple[str, ...] | None = None) -> Machine:
    """What the operator says wins. `devices`: those that are declared by name; None: those that are found."""
    named = gpus.found() if devices is None else devices
    resources: dict[str, float] = {CPU: cores(), MEMORY: float(memory())}
    if named:
        resources[GPU] = float(len(named))
    resources |= given
    return Machine(resources, _enough(named, math.ceil(resources.get(GPU, 0.0))))


def _enough(named: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Devices that were declared by their number alone are the first ones."""
    more = (str(number) for number in range(count + len(named)) if str(number) not in named)
    return (*named[:count], *(next(more) for _ in range(count - len(named))))
