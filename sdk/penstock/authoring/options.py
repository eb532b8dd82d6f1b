"""The options of a step: one table that the decorators, `.options` and `command` all read."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict

from penstock.authoring.caching import CachePolicy, read_cache
from penstock.authoring.compensation import Compensating, read_compensate
from penstock.authoring.concurrency import Concurrency, read_concurrency
from penstock.authoring.containers import ContainerUse, read_container
from penstock.authoring.requirements import RequirementsUse, read_requirements
from penstock.authoring.secrets import SecretUse, read_secrets
from penstock.authoring.shapes import members_of
from penstock.errors import DefinitionError
from penstock.names import check_name, nearest
from penstock.quantities import (
    LEAST_WEIGHT,
    MAX_PRIORITY,
    MOST_WEIGHT,
    SIZE_REMEDY,
    SPAN_REMEDY,
    Size,
    Span,
    nanoseconds,
    size_bytes,
)

MAX_ATTEMPTS = 1_000
MOST_PARALLEL = 2**31 - 1
_LARGEST_AMOUNT = sys.float_info.max
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class TriggerRule(StrEnum):
    """When a step may start, judged by the states of its upstream steps."""

    ALL_SUCCESS = "all_success"
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    NONE_SKIPPED = "none_skipped"
    ALL_SKIPPED = "all_skipped"
    ALWAYS = "always"


ErrorName: TypeAlias = "type[BaseException] | str"


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When and how often an attempt that failed is made again.

    `max_attempts` counts executions: 1 is no retry. The wait before the second attempt is `initial_backoff`
    (unset: 1 s), each further wait is the former times `multiplier` (unset: 2), at most `max_backoff`
    (unset: 5 minutes); `jitter` is the random share of a wait, 0 to 1 (unset: 0.1). `retry_on` and
    `never_retry_on` take exception classes, their names, "Timeout", "ExitCode:<n>", "Crash" and
    "OutOfMemory"; an empty `retry_on` is all failures, and `never_retry_on` wins.

    Lost agents are not failures of the step and do not count for `max_attempts`: so many as `max_losses` says may be
    lost while they run it, with the last of them it fails (unset: what the coordinator's PENSTOCK_MAX_LOSSES says, 10).

    After an attempt that ran out of memory the next one asks for `memory_factor` times as much, 1 to 16, of the step's
    `memory`: at most 64 times that, and no more than the largest agent has.
    """

    max_attempts: int = 3
    initial_backoff: Span | None = None
    multiplier: float | None = None
    max_backoff: Span | None = None
    jitter: float | None = None
    retry_on: ErrorName | Iterable[ErrorName] = ()
    never_retry_on: ErrorName | Iterable[ErrorName] = ()
    max_losses: int | None = None
    memory_factor: float | None = None

    def __post_init__(self) -> None:
        _check_count(self.max_attempts, "retry.max_attempts", 1, MAX_ATTEMPTS)
        for name in ("initial_backoff", "max_backoff"):
            if getattr(self, name) is not None:
                _read_span(getattr(self, name), f"retry.{name}")
        if self.multiplier is not None:
            _check_number(self.multiplier, "retry.multiplier", 1, 100)
        if self.jitter is not None:
            _check_number(self.jitter, "retry.jitter", 0, 1)
        if self.max_losses is not None:
            _check_count(self.max_losses, "retry.max_losses", 1, MAX_ATTEMPTS)
        if self.memory_factor is not None:
            _check_number(self.memory_factor, "retry.memory_factor", 1, 16)
        for name in ("retry_on", "never_retry_on"):
            object.__setattr__(self, name, _read_errors(getattr(self, name), f"retry.{name}"))


class DefaultKeywords(TypedDict, total=False):
    """The options that a pipeline may give to all of its steps."""

    retry: Retry | None
    retries: int
    timeout: Span | None
    queued_timeout: Span | None
    overall_timeout: Span | None
    queue: str
    labels: Mapping[str, str]
    cpu: float
    memory: Size
    gpu: float
    resources: Mapping[str, float]
    env: Mapping[str, str]
    cache: CachePolicy | bool | None
    secrets: Sequence[str] | Mapping[str, Any]
    container: str | Mapping[str, str] | bool | None
    requirements: Sequence[str] | Mapping[str, Any] | bool | None


class CommandKeywords(DefaultKeywords, total=False):
    """All options of a step but its name."""

    description: str
    when: str
    trigger_rule: TriggerRule | str
    allow_failure: bool
    cleanup: bool
    priority: int
    concurrency: Concurrency | str | None
    depends_on: Any
    compensate: Any


class MappedCommandKeywords(CommandKeywords, total=False):
    """Those of a step that is mapped."""

    max_parallel: int


class StepKeywords(MappedCommandKeywords, total=False):
    """All options of a step."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """Options after checking. Spans are nanoseconds, sizes bytes; None is "not said"."""

    name: str | None = None
    description: str | None = None
    retry: Retry | None = None
    timeout: int | None = None
    queued_timeout: int | None = None
    overall_timeout: int | None = None
    queue: str | None = None
    labels: Mapping[str, str] | None = None
    cpu: float | None = None
    memory: int | None = None
    gpu: float | None = None
    resources: Mapping[str, float] | None = None
    env: Mapping[str, str] | None = None
    cache: Any = None
    secrets: tuple[SecretUse, ...] | None = None
    container: ContainerUse | None = None
    requirements: RequirementsUse | None = None
    when: str | None = None
    trigger_rule: TriggerRule | None = None
    allow_failure: bool | None = None
    cleanup: bool | None = None
    priority: int | None = None
    concurrency: Concurrency | None = None
    depends_on: tuple[Any, ...] = ()
    max_parallel: int | None = None
    compensate: Compensating | None = None


def read_options(base: StepOptions, given: Mapping[str, Any]) -> StepOptions:
    """`base` with what was given instead. `retries` changes only the number of a retry policy."""
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if name == "retries":
            continue
        if name not in _READERS:
            raise DefinitionError("there is no such option", field=name, remedy=nearest(name, {*_READERS, "retries"}))
        changes[name] = None if value is None else _READERS[name](value, name)
    if changes.get("depends_on", ()) is None:
        changes["depends_on"] = ()
    if given.get("retries") is not None:
        changes["retry"] = _read_retries(base, given)
    return replace(base, **changes)


def read_defaults(given: Mapping[str, Any]) -> StepOptions:
    """The options that a pipeline gives to all of its steps."""
    for name in given:
        if name not in DefaultKeywords.__annotations__:
            raise DefinitionError(
                "this option cannot be a default for all steps",
                field=f"defaults.{name}",
                remedy=nearest(str(name), DefaultKeywords.__annotations__),
            )
    return read_options(StepOptions(), given)


def _read_retries(base: StepOptions, given: Mapping[str, Any]) -> Retry:
    if given.get("retry") is not None:
        raise DefinitionError(
            "both retries and retry are given",
            field="retries",
            remedy="retries=2 is short for retry=Retry(max_attempts=3): give one of them",
        )
    retries = _check_count(given["retries"], "retries", 0, MAX_ATTEMPTS - 1)
    return replace(base.retry or Retry(), max_attempts=retries + 1)


def _check_count(value: Any, field: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DefinitionError(
            f"{value!r} is out of bounds", field=field, remedy=f"give a whole number from {least:,} to {most:,}"
        )
    return value


def _check_number(value: Any, field: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise DefinitionError(
            f"{value!r} is out of bounds", field=field, remedy=f"give a number from {least} to {most}"
        )
    return float(value)


def _read_errors(given: Any, field: str) -> tuple[ErrorName, ...]:
    remedy = "give exception classes or their names"
    entries = (given,) if isinstance(given, str | type) else members_of(given, field, remedy)
    for entry in entries:
        if isinstance(entry, str) and entry:
            continue
        if isinstance(entry, type) and issubclass(entry, BaseException):
            continue
        raise DefinitionError(f"{entry!r} names no error", field=field, remedy=remedy)
    return entries


def _read_span(value: Any, field: str) -> int:
    try:
        return nanoseconds(value)
    except ValueError as error:
        raise DefinitionError(str(error), field=field, remedy=SPAN_REMEDY) from None


def _read_timeout(value: Any, field: str) -> int:
    span = _read_span(value, field)
    if span == 0:
        raise DefinitionError("the timeout is zero", field=field, remedy="leave it out for no timeout")
    return span


def _read_size(value: Any, field: str) -> int:
    try:
        return size_bytes(value)
    except ValueError as error:
        raise DefinitionError(str(error), field=field, remedy=SIZE_REMEDY) from None


def _read_amount(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST_AMOUNT:
        raise DefinitionError(f"{value!r} is no amount", field=field, remedy="give a number from 0 on")
    return float(value)


def _read_amounts(value: Any, field: str) -> dict[str, float]:
    return {
        check_name(name, field): _read_amount(amount, f"{field}.{name}")
        for name, amount in _check_mapping(value, field).items()
    }


def _check_mapping(value: Any, field: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise DefinitionError(f"{value!r} is no mapping", field=field, remedy="give a dict")
    return value


def _read_text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise DefinitionError(f"{value!r} is no text", field=field, remedy="give a str")
    return value


def _read_texts(value: Any, field: str) -> dict[str, str]:
    return {
        _read_text(name, field): _read_text(text, f"{field}.{name}")
        for name, text in _check_mapping(value, field).items()
    }


def _read_env(value: Any, field: str) -> dict[str, str]:
    texts = _read_texts(value, field)
    for name in texts:
        if not _ENV_NAME.fullmatch(name) or name.startswith("PENSTOCK_"):
            raise DefinitionError(
                f"{name!r} is no name of a variable that a step may set",
                field=field,
                remedy="use letters, digits and '_', not beginning with a digit or with PENSTOCK_",
            )
    return texts


def _read_rule(value: Any, field: str) -> TriggerRule:
    try:
        return TriggerRule(value.lower() if isinstance(value, str) else value)
    except ValueError:
        known = nearest(str(value), [rule.value for rule in TriggerRule])
        raise DefinitionError(f"{value!r} is no trigger rule", field=field, remedy=known) from None


def _read_flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise DefinitionError(f"{value!r} is no bool", field=field, remedy="give True or False")
    return value


def _read_retry(value: Any, field: str) -> Retry:
    if not isinstance(value, Retry):
        raise DefinitionError(
            f"{value!r} is no retry policy", field=field, remedy="give a Retry(...), or retries=<number>"
        )
    return value


def require_priority(value: Any, field: str) -> int:
    return _check_count(value, field, -MAX_PRIORITY, MAX_PRIORITY)


def require_weight(value: Any, field: str) -> float:
    return _check_number(value, field, LEAST_WEIGHT, MOST_WEIGHT)


def _read_upstream(value: Any, field: str) -> tuple[Any, ...]:
    entries = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)
    for entry in entries:
        if not isinstance(entry, str) and not hasattr(entry, "penstock_node"):
            raise DefinitionError(
                f"{entry!r} names no step", field=field, remedy="give names of steps or what their calls return"
            )
    return entries


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "name": check_name,
    "description": _read_text,
    "retry": _read_retry,
    "timeout": _read_timeout,
    "queued_timeout": _read_timeout,
    "overall_timeout": _read_timeout,
    "queue": check_name,
    "labels": _read_texts,
    "cpu": _read_amount,
    "memory": _read_size,
    "gpu": _read_amount,
    "resources": _read_amounts,
    "env": _read_env,
    "cache": read_cache,
    "secrets": read_secrets,
    "container": read_container,
    "requirements": read_requirements,
    "when": _read_text,
    "trigger_rule": _read_rule,
    "allow_failure": _read_flag,
    "cleanup": _read_flag,
    "priority": require_priority,
    "concurrency": read_concurrency,
    "depends_on": _read_upstream,
    "compensate": read_compensate,
    "max_parallel": lambda value, field: _check_count(value, field, 0, MOST_PARALLEL),
}
if set(_READERS) != {field.name for field in fields(StepOptions)}:
    raise RuntimeError("every option of a step has a reader")


def require_span(value: Any, field: str) -> int:
    """Nanoseconds, more than zero, of an option that is no step's."""
    return _read_timeout(value, field)


def require_grace(value: Any, field: str) -> int:
    """Nanoseconds, zero allowed."""
    return _read_span(value, field)


def require_labels(value: Any, field: str) -> dict[str, str]:
    return _read_texts(value, field)


def require_count(value: Any, field: str, least: int, most: int) -> int:
    return _check_count(value, field, least, most)
