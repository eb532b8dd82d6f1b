"""What a running attempt knows of itself, and what it may report.

Works inside a step that an agent runs. Outside of one, `current` raises `ContextError`, and the `report_`
functions check their arguments and do nothing more, so that a step can be called as a plain function.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

from penstock.errors import ContextError

# The agent's worker puts a module of this name into sys.modules; neither side imports the other.
RUNTIME_MODULE = "penstock_step_runtime"


@dataclass(frozen=True, slots=True)
class StepContext:
    """One attempt of one step run."""

    run_id: str
    pipeline: str
    step: str
    item: int | tuple[int, ...] | None
    """The place in the map: a number, in a nested map one for each level, outermost first; None in a step that is not
    mapped."""
    attempt: int
    """Counted from 1."""
    idempotency_key: str
    """The same for every attempt of this step run: for calls to other systems."""
    work_dir: str
    """A folder of this attempt alone; removed afterwards."""


def _runtime() -> Any:
    return sys.modules.get(RUNTIME_MODULE)


def current() -> StepContext:
    """The attempt that calls. ContextError outside of one."""
    runtime = _runtime()
    if runtime is None:
        raise ContextError(
            "there is no running attempt here",
            remedy="penstock.context.current() works inside a step that an agent runs",
        )
    return StepContext(
        run_id=runtime.run_id,
        pipeline=runtime.pipeline,
        step=runtime.step,
        item=runtime.item,
        attempt=runtime.attempt,
        idempotency_key=runtime.idempotency_key,
        work_dir=str(runtime.work_dir),
    )


def secret(name: str) -> str:
    """The value of a secret that the step names. ContextError outside of an attempt, and if the step does not name it.

    Where it ends up by mistake - in what the step prints, in the text of an error - it is masked.
    """
    runtime = _runtime()
    if runtime is None:
        raise ContextError(
            f"there is no running attempt here that could have the secret {name!r}",
            field=name,
            remedy="penstock.secret() works inside a step that an agent runs",
        )
    found: dict[str, str] = runtime.secrets
    if name not in found:
        raise ContextError(
            f"the step does not name the secret {name!r}",
            field=name,
            remedy=f'write @step(secrets=["{name}"])',
        )
    return found[name]


def report_metric(name: str, value: float) -> None:
    """Keeps a number with the attempt. The last value of a name counts."""
    _check_name("metric", name)
    _check_number(name, value)
    runtime = _runtime()
    if runtime is not None:
        runtime.report_metric(name, float(value))


def report_metadata(name: str, value: str) -> None:
    """Keeps a text with the attempt. The last value of a name counts."""
    _check_name("metadata", name)
    _check_text(name, value)
    runtime = _runtime()
    if runtime is not None:
        runtime.report_metadata(name, value)


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ContextError(f"{value!r} is no number", field=name, remedy="a metric is a finite number")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ContextError(f"{value!r} is no text", field=name, remedy="metadata is text: use str(...)")


def _check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise ContextError(f"{name!r} is no name of a {kind}", remedy="give a text that is not empty")
