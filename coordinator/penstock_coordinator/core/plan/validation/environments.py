"""What steps run in."""

from __future__ import annotations

from collections.abc import Callable

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.locks import canonical_pylock, canonical_requirements_lock
from penstock_coordinator.core.plan.requirements import BadRequirement, canonical_python, canonical_requirement
from penstock_coordinator.core.plan.validation.containers import check_container
from penstock_coordinator.core.plan.validation.report import Report

MOST_ENVIRONMENTS = 256
"""Different ones in a pipeline."""
MOST_BYTES = 8 << 20
"""Of all different ones in a pipeline: the time of the checks depends on it."""
MOST_REQUIREMENTS = 500
MOST_LOCK_BYTES = 1 << 20
_FORMATS = frozenset({pb.LOCK_FORMAT_REQUIREMENTS, pb.LOCK_FORMAT_PYLOCK})


def check_environments(report: Report, spec: pb.PipelineSpec) -> None:
    """Those that are written alike are checked where the first of them is."""
    owners: list[tuple[str, pb.StepDefaults | pb.StepSpec]] = [("defaults", spec.defaults)]
    owners += [(f"steps[{number}]", step) for number, step in enumerate(spec.steps)]
    different: dict[bytes, tuple[str, pb.Environment]] = {}
    for field, owner in owners:
        if owner.HasField("environment"):
            content = owner.environment.SerializeToString(deterministic=True)
            different.setdefault(content, (f"{field}.environment", owner.environment))
    if len(different) > MOST_ENVIRONMENTS:
        text = f"there are {len(different):,} different environments, past the limit of {MOST_ENVIRONMENTS}"
        report.add("steps", f"{text}: let steps share one")
        return
    size = sum(map(len, different))
    if size > MOST_BYTES:
        text = f"the different environments have {size:,} bytes in all, past the limit of {MOST_BYTES:,}"
        report.add("steps", f"{text}: let steps share one")
        return
    for field, environment in different.values():
        if environment.WhichOneof("kind") == "python":
            _check_python(report, f"{field}.python", environment.python)
        elif environment.WhichOneof("kind") == "container":
            check_container(report, f"{field}.container", environment.container)


def _check_python(report: Report, field: str, python: pb.PythonEnvironment) -> None:
    if python.requirements and python.lock:
        report.add(field, "both requirements and a lock file are given: give one, a lock file has all that is needed")
        return
    if len(python.requirements) > MOST_REQUIREMENTS:
        count = len(python.requirements)
        report.add(
            f"{field}.requirements",
            f"there are {count:,}, past the limit of {MOST_REQUIREMENTS}: name what you import, not what that needs",
        )
        return
    for number, requirement in enumerate(python.requirements):
        _check(report, f"{field}.requirements[{number}]", canonical_requirement, requirement)
    if python.python:
        _check(report, f"{field}.python", canonical_python, python.python)
    if python.lock:
        _check_lock(report, field, python)
    elif python.lock_format:
        report.add(f"{field}.lock_format", "there is no lock file: give `lock`, or leave the format out")


def _check_lock(report: Report, field: str, python: pb.PythonEnvironment) -> None:
    size = len(python.lock.encode())
    if size > MOST_LOCK_BYTES:
        text = f"the lock file has {size:,} bytes, past the limit of {MOST_LOCK_BYTES:,}: lock for fewer platforms"
        report.add(f"{field}.lock", text)
    elif python.lock_format not in _FORMATS:
        report.add(f"{field}.lock_format", "the format of the lock file is not said: use REQUIREMENTS or PYLOCK")
    elif python.lock_format == pb.LOCK_FORMAT_PYLOCK:
        _check(report, f"{field}.lock", canonical_pylock, python.lock)
    else:
        _check(report, f"{field}.lock", canonical_requirements_lock, python.lock)


def _check(report: Report, field: str, canonical: Callable[[str], str], text: str) -> None:
    try:
        canonical(text)
    except BadRequirement as error:
        report.add(field, str(error))
