"""Cache policies, as pipelines and steps say them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from penstock.authoring.shapes import members_of
from penstock.errors import DefinitionError
from penstock.quantities import SPAN_REMEDY, Span, nanoseconds


@dataclass(frozen=True, kw_only=True)
class CachePolicy:
    """When an earlier value stands for running a step.

    It does if nothing that counts has changed: the code of the step, its environment, its variables, its inputs
    (of a command all parameters of the run too), and `version`, a text that is raised for what cannot be seen in the
    code. `ignore` names inputs and parameters that do not count. `key` counts in place of all inputs and parameters:
    a text, or with `expression` what a CEL expression over the parameters gives, for example
    ``"params.day + params.region"``. A value is used for as long as `expires` says (unset: as long as it is kept).
    """

    expires: Span | None = None
    version: str = ""
    ignore: str | Iterable[str] = ()
    key: str = ""
    expression: str = ""

    def __post_init__(self) -> None:
        for name in ("version", "key", "expression"):
            given = getattr(self, name)
            if not isinstance(given, str):
                raise DefinitionError(f"{given!r} is no text", field=f"cache.{name}", remedy="give a str")
        if self.key and self.expression:
            raise DefinitionError(
                "both key and expression are given", field="cache", remedy='give key="..." or expression="...": one'
            )
        object.__setattr__(self, "ignore", _names(self.ignore))
        if self.expires is not None:
            _check_expires(self.expires)


@dataclass(frozen=True)
class _Off:
    """`cache=False`: whatever the pipeline's defaults say."""


OFF = _Off()


def _names(given: Any) -> tuple[str, ...]:
    remedy = "give names of inputs and parameters"
    names = (given,) if isinstance(given, str) else members_of(given, "cache.ignore", remedy)
    for name in names:
        if not isinstance(name, str) or not name:
            raise DefinitionError(f"{name!r} is no name", field="cache.ignore", remedy=remedy)
    return names


def _check_expires(given: Any) -> None:
    try:
        span = nanoseconds(given)
    except ValueError as error:
        raise DefinitionError(str(error), field="cache.expires", remedy=SPAN_REMEDY) from None
    if span < 10**9:
        remedy = "give at least 1s, or leave it out: then a value is used as long as it is kept"
        raise DefinitionError(f"{given!r} is too short", field="cache.expires", remedy=remedy)


def read_cache(value: Any, field: str) -> CachePolicy | _Off:
    if value is True:
        return CachePolicy()
    if value is False:
        return OFF
    if not isinstance(value, CachePolicy):
        remedy = "give True, False, or a CachePolicy(...)"
        raise DefinitionError(f"{value!r} is no cache policy", field=field, remedy=remedy)
    return value
