"""What running user code may ask and report: the module `penstock_step_runtime`.

The module is put into `sys.modules`, where libraries look it up; nobody imports this package for it.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from types import ModuleType

MODULE = "penstock_step_runtime"
MOST_REPORTS = 64
LONGEST_NAME = 128
LONGEST_TEXT = 4096


@dataclass(slots=True)
class Attempt:
    """The attempt that runs, and what it reported."""

    run_id: str
    pipeline: str
    step: str
    item: int | tuple[int, ...] | None
    """The place in the map: a number, or one for each level; None if the step is not mapped."""
    attempt: int
    idempotency_key: str
    work_dir: str
    secrets: dict[str, str] = field(default_factory=dict)
    """By name."""
    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    def report_metric(self, name: str, value: float) -> None:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"metric {name!r}: {value!r} is no finite number")
        _check_room(self.metrics, "metric", name)
        self.metrics[name] = number

    def report_metadata(self, name: str, value: str) -> None:
        _check_room(self.metadata, "metadata", name)
        text = str(value)
        if len(text.encode(errors="replace")) > LONGEST_TEXT:
            raise ValueError(f"metadata {name!r}: longer than {LONGEST_TEXT} bytes; keep the text elsewhere")
        self.metadata[name] = text.encode(errors="replace").decode()


def _check_room(reports: dict[str, float] | dict[str, str], kind: str, name: str) -> None:
    if not name or len(name) > LONGEST_NAME:
        raise ValueError(f"{kind} {name!r}: a name has 1 to {LONGEST_NAME} characters")
    if name not in reports and len(reports) >= MOST_REPORTS:
        raise ValueError(f"{kind} {name!r}: an attempt reports at most {MOST_REPORTS} of each kind")


class _StepRuntime(ModuleType):
    """Attributes are those of the attempt that runs."""

    def __init__(self) -> None:
        super().__init__(MODULE, "The running attempt.")
        self._attempt: Attempt | None = None

    def __getattr__(self, name: str) -> object:
        attempt = self.__dict__.get("_attempt")
        if attempt is None or name.startswith("__"):
            raise AttributeError(name)
        return getattr(attempt, name)

    def set_attempt(self, attempt: Attempt | None) -> None:
        self._attempt = attempt


_module = _StepRuntime()


def enter(attempt: Attempt) -> None:
    """From now on user code sees this attempt."""
    _module.set_attempt(attempt)
    sys.modules[MODULE] = _module


def leave() -> None:
    sys.modules.pop(MODULE, None)
    _module.set_attempt(None)
