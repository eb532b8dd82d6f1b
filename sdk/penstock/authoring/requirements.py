"""The requirements of a step: the Python environment that its agent builds for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import DefinitionError

_MEMBERS = ("packages", "lock", "python")
_REMEDY = (
    'give a list of requirements, {"packages": [...], "python": ">=3.12"}, {"lock": "requirements.txt"}, or False for'
    " what the agent itself runs in"
)


@dataclass(frozen=True, slots=True)
class RequirementsUse:
    """Whether the packages are there is for the coordinator and the agents to say."""

    packages: tuple[str, ...] = ()
    lock: str = ""
    """A lock file, relative to the file of the pipeline."""
    python: str = ""
    none: bool = False
    """The agent's own environment, whatever the pipeline's defaults say."""


def read_requirements(value: Any, field: str) -> RequirementsUse:
    """Raises `DefinitionError`."""
    if value is False:
        return RequirementsUse(none=True)
    if isinstance(value, Mapping):
        return _members(value, field)
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise DefinitionError(f"{value!r} is no list of requirements", field=field, remedy=_REMEDY)
    return RequirementsUse(_packages(value, field))


def _members(value: Mapping[str, Any], field: str) -> RequirementsUse:
    for name in value:
        if name not in _MEMBERS:
            known = ", ".join(_MEMBERS)
            raise DefinitionError("there is no such member", field=f"{field}.{name}", remedy=f"known: {known}")
    if value.get("packages") and value.get("lock"):
        remedy = "give one of them: a lock file has all that is needed"
        raise DefinitionError("both packages and a lock file are given", field=field, remedy=remedy)
    packages = value.get("packages", ())
    if isinstance(packages, str | Mapping) or not isinstance(packages, Iterable):
        raise DefinitionError(f"{packages!r} is no list", field=f"{field}.packages", remedy=_REMEDY)
    return RequirementsUse(
        _packages(packages, f"{field}.packages"),
        _text(value.get("lock", ""), f"{field}.lock"),
        _text(value.get("python", ""), f"{field}.python"),
    )


def _packages(value: Iterable[Any], field: str) -> tuple[str, ...]:
    return tuple(_text(each, f"{field}[{number}]") for number, each in enumerate(value))


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise DefinitionError(f"{value!r} is no text", field=field, remedy=_REMEDY)
    return value
