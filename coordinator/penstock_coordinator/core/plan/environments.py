"""What steps run in, in canonical form: its name is the same wherever it is asked for, and changes with its content."""

from __future__ import annotations

import hashlib
import json

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.locks import canonical_pylock, canonical_requirements_lock
from penstock_coordinator.core.plan.model import ContainerEnvironment, Environment, PythonEnvironment
from penstock_coordinator.core.plan.requirements import canonical_python, canonical_requirement

FORM = "penstock-environment-1"
"""Part of every name: another canonical form is another FORM."""
PYTHON, CONTAINER = "python", "container"
_PULLS = {pb.PULL_POLICY_ALWAYS: "always", pb.PULL_POLICY_NEVER: "never"}


def environment_of(spec: pb.Environment) -> Environment | None:
    """None: the agent's own. Raises `BadRequirement`."""
    kind = spec.WhichOneof("kind")
    if kind is None:
        return None
    if kind == CONTAINER:
        return ContainerEnvironment(spec.container.image, _PULLS.get(spec.container.pull, "missing"))
    python = spec.python
    pylock = python.lock_format == pb.LOCK_FORMAT_PYLOCK
    return PythonEnvironment(
        requirements=tuple(sorted({canonical_requirement(each) for each in python.requirements})),
        lock=_lock(python.lock, pylock=pylock) if python.lock else "",
        pylock=pylock,
        python=canonical_python(python.python) if python.python else "",
    )


def environment_name(environment: Environment) -> str:
    """Its kind, and a digest over all that it is."""
    if isinstance(environment, ContainerEnvironment):
        return _name(CONTAINER, [FORM, CONTAINER, environment.image, environment.pull])
    said: list[object] = [
        FORM,
        PYTHON,
        environment.requirements,
        environment.lock,
        environment.pylock,
        environment.python,
    ]
    return _name(PYTHON, said)


def _name(kind: str, said: list[object]) -> str:
    return f"{kind}:{hashlib.sha256(json.dumps(said).encode()).hexdigest()}"


def environment_kind(name: str) -> str:
    return name.partition(":")[0]


def _lock(text: str, *, pylock: bool) -> str:
    return canonical_pylock(text) if pylock else canonical_requirements_lock(text)
