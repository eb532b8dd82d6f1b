"""Limits on concurrency, as pipelines and steps say them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from penstock.errors import DefinitionError
from penstock.names import nearest

MAX_LIMIT = 100_000


class ConcurrencyPolicy(StrEnum):
    """What becomes of those who share a key when there are more than its limit."""

    QUEUE = "queue"
    CANCEL_NEWEST = "cancel_newest"
    CANCEL_OLDEST = "cancel_oldest"


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    """At most `limit` of those that share a key at once, in all of Penstock.

    The key is a text (`key`), or what a CEL expression over the parameters of the run gives (`expression`, for example
    ``"'tenant-' + params.tenant"``). Keys of pipelines and keys of steps are apart. `policy` says what becomes of those
    that are too many: they wait ("queue"), they are cancelled ("cancel_newest"), or those who came first are
    ("cancel_oldest").
    """

    key: str = ""
    expression: str = ""
    limit: int = 1
    policy: ConcurrencyPolicy | str = ConcurrencyPolicy.QUEUE

    def __post_init__(self) -> None:
        for name in ("key", "expression"):
            given = getattr(self, name)
            if not isinstance(given, str):
                raise DefinitionError(f"{given!r} is no text", field=f"concurrency.{name}", remedy="give a str")
        if bool(self.key) == bool(self.expression):
            problem = "both key and expression are given" if self.key else "there is no key"
            raise DefinitionError(
                problem, field="concurrency", remedy='give key="...", or expression="..." over params: one of them'
            )
        _check_limit(self.limit)
        object.__setattr__(self, "policy", _policy(self.policy))


def _check_limit(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_LIMIT:
        remedy = f"give a whole number from 1 to {MAX_LIMIT:,}"
        raise DefinitionError(f"{value!r} is out of bounds", field="concurrency.limit", remedy=remedy)


def _policy(value: Any) -> ConcurrencyPolicy:
    try:
        return ConcurrencyPolicy(value.lower() if isinstance(value, str) else value)
    except ValueError:
        remedy = nearest(str(value), [policy.value for policy in ConcurrencyPolicy])
        raise DefinitionError(f"{value!r} is no policy", field="concurrency.policy", remedy=remedy) from None


def read_concurrency(value: Any, field: str) -> Concurrency:
    """A text is the key itself, with a limit of 1."""
    if isinstance(value, str):
        return Concurrency(key=value)
    if not isinstance(value, Concurrency):
        raise DefinitionError(
            f"{value!r} is no limit on concurrency", field=field, remedy="give a key as a text, or a Concurrency(...)"
        )
    return value
