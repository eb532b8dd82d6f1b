"""From what a pipeline says of requirements to the message."""

from __future__ import annotations

from pathlib import Path

from penstock.authoring.requirements import RequirementsUse
from penstock.environments.lock_files import Lock, read_lock
from penstock.v1 import pipeline_pb2


def set_requirements(
    message: pipeline_pb2.Environment, given: RequirementsUse, folder: Path | None, field: str
) -> None:
    """`folder` is where lock files are looked for. Raises `DefinitionError`."""
    message.SetInParent()
    if given.none:
        return
    python = message.python
    python.SetInParent()
    python.requirements.extend(given.packages)
    python.python = given.python
    if given.lock:
        set_lock(python, read_lock(folder or Path.cwd(), given.lock, field))


def set_lock(python: pipeline_pb2.PythonEnvironment, lock: Lock) -> None:
    python.lock = lock.text
    python.lock_format = pipeline_pb2.LOCK_FORMAT_PYLOCK if lock.pylock else pipeline_pb2.LOCK_FORMAT_REQUIREMENTS


def read_named_locks(spec: pipeline_pb2.PipelineSpec, folder: Path) -> None:
    """A `lock` of one line, without a format, is the name of a file: its text comes in its place."""
    owners: list[tuple[str, pipeline_pb2.StepDefaults | pipeline_pb2.StepSpec]] = [("defaults", spec.defaults)]
    owners += [(f"steps.{step.name}", step) for step in spec.steps]
    for field, owner in owners:
        python = owner.environment.python if owner.HasField("environment") else None
        if python is not None and python.lock and not python.lock_format and "\n" not in python.lock.strip():
            set_lock(python, read_lock(folder, python.lock.strip(), f"{field}.environment.python.lock"))
