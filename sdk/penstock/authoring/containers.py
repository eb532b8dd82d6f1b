"""The container image that a step runs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import DefinitionError

PULLS = ("missing", "always", "never")
_REMEDY = 'give the name of an image, {"image": "python:3.12-slim", "pull": "missing"}, or False for no container'


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """`image` empty: no container, whatever the pipeline's defaults say."""

    image: str
    pull: str = PULLS[0]


def read_container(value: Any, field: str) -> ContainerUse:
    """Raises `DefinitionError`. Whether the name is one that registries know is for the coordinator to say."""
    if value is False:
        return ContainerUse("")
    if isinstance(value, str):
        return ContainerUse(_image(value, field))
    if not isinstance(value, Mapping):
        raise DefinitionError(f"{value!r} names no image", field=field, remedy=_REMEDY)
    for name in value:
        if name not in ("image", "pull"):
            raise DefinitionError("there is no such member", field=f"{field}.{name}", remedy="give image and pull")
    pull = value.get("pull", PULLS[0])
    if pull not in PULLS:
        raise DefinitionError(f"{pull!r} is unknown", field=f"{field}.pull", remedy=f"use one of {', '.join(PULLS)}")
    return ContainerUse(_image(value.get("image"), f"{field}.image"), pull)


def _image(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"{value!r} names no image", field=field, remedy=_REMEDY)
    return value
