"""Spans of time, retries, timeouts, resources: everything that is a number."""

from __future__ import annotations

import math
import re

from google.protobuf.duration_pb2 import Duration

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.report import Report, member
from penstock_coordinator.core.plan.validation.texts import check_bytes, check_name

_SECOND = 1_000_000_000
_ERROR_NAME = re.compile(r"[^\W\d]\w*(?:\.(?:[^\W\d]\w*|<locals>))*")
_OWN_RESOURCES = ("cpu", "memory_bytes", "gpu")
MAX_MULTIPLIER = 100
MAX_MEMORY_FACTOR = 16


def check_span(report: Report, field: str, span: Duration, shortest: int, longest: int) -> None:
    """Both bounds in microseconds; a shortest of 0 allows 0."""
    if not -_SECOND < span.nanos < _SECOND:
        report.add(field, f"{span.nanos} nanos is no part of a second: use 0 to 999,999,999")
        return
    if span.seconds * span.nanos < 0:
        report.add(field, f"{span.seconds} seconds and {span.nanos} nanos have different signs: give both the same")
        return
    nanoseconds = span.seconds * _SECOND + span.nanos
    if nanoseconds < 0:
        report.add(field, f"{_span(nanoseconds)} is negative: use a span of at least {_span(shortest * 1_000)}")
    elif nanoseconds < shortest * 1_000:
        none = "; leave it out for no limit" if nanoseconds == 0 else ""
        report.add(field, f"{_span(nanoseconds)} is too short: use at least {_span(shortest * 1_000)}{none}")
    elif nanoseconds > longest * 1_000:
        report.add(field, f"{_span(nanoseconds)} is too long: use at most {_span(longest * 1_000)}")


def _span(nanoseconds: int) -> str:
    seconds, rest = divmod(abs(nanoseconds), _SECOND)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if nanoseconds < 0 else ''}{seconds:,}{fraction} s"


def check_timeouts(report: Report, field: str, timeouts: pb.Timeouts, limits: Limits) -> None:
    for name in ("queued", "attempt", "overall"):
        if timeouts.HasField(name):
            check_span(report, f"{field}.{name}", getattr(timeouts, name), limits.shortest_timeout, limits.span)


def check_retry(report: Report, field: str, retry: pb.RetryPolicy, limits: Limits) -> None:
    attempts = retry.max_attempts
    if not 0 <= attempts <= limits.retry_attempts:
        form = f"use 1 (no retry) to {limits.retry_attempts:,}"
        report.add(f"{field}.max_attempts", f"{attempts:,} is out of range: {form}")
    losses = retry.max_losses
    if not 0 <= losses <= limits.retry_attempts:
        report.add(
            f"{field}.max_losses",
            f"{losses:,} is out of range: use 1 to {limits.retry_attempts:,}, or leave it out for the coordinator's",
        )
    factor = retry.memory_factor
    if factor != 0 and not 1 <= factor <= MAX_MEMORY_FACTOR:
        report.add(f"{field}.memory_factor", f"{factor} is out of range: use 1 (no more) to {MAX_MEMORY_FACTOR}")
    for name in ("initial_backoff", "max_backoff"):
        if retry.HasField(name):
            check_span(report, f"{field}.{name}", getattr(retry, name), 0, limits.span)
    _check_backoff_order(report, field, retry)
    multiplier = retry.backoff_multiplier
    if multiplier != 0 and not 1 <= multiplier <= MAX_MULTIPLIER:
        report.add(f"{field}.backoff_multiplier", f"{multiplier} is out of range: use 1 to {MAX_MULTIPLIER}")
    if retry.HasField("jitter") and not 0 <= retry.jitter <= 1:
        report.add(f"{field}.jitter", f"{retry.jitter} is out of range: use 0 (none) to 1")
    for name in ("retry_on", "never_retry_on"):
        _check_errors(report, f"{field}.{name}", list(getattr(retry, name)), limits)


def check_memory_factor(report: Report, field: str, step: pb.StepSpec, defaults: pb.StepDefaults) -> None:
    """A step's own factor is of its own memory, or of the defaults'."""
    asked = step.resources if step.HasField("resources") else defaults.resources
    if step.retry.memory_factor > 1 and not asked.memory_bytes:
        report.add(f"{field}.memory_factor", "it multiplies resources.memory_bytes, which the step does not ask for")


def _check_backoff_order(report: Report, field: str, retry: pb.RetryPolicy) -> None:
    if not (retry.HasField("initial_backoff") and retry.HasField("max_backoff")):
        return
    first, longest = retry.initial_backoff, retry.max_backoff
    if 0 <= longest.seconds * _SECOND + longest.nanos < first.seconds * _SECOND + first.nanos:
        report.add(f"{field}.max_backoff", "it is shorter than initial_backoff: raise it, or lower initial_backoff")


def _check_errors(report: Report, field: str, names: list[str], limits: Limits) -> None:
    if len(names) > limits.retry_errors:
        report.add(field, f"there are {len(names):,} entries, past the limit of {limits.retry_errors}: remove some")
        return
    for at, name in enumerate(names):
        place = f"{field}[{at}]"
        if not check_bytes(report, place, name, limits.error_name_bytes, "the name"):
            continue
        kind, colon, code = name.partition(":")
        if colon and kind == "ExitCode":
            if not (code.isascii() and code.isdecimal() and len(code) <= 3 and int(code) <= 255):
                report.add(place, f"{quoted(name)}: an exit code is 0 to 255, as in 'ExitCode:3'")
        elif not _ERROR_NAME.fullmatch(name):
            form = "the name of an exception class, 'Timeout', 'ExitCode:<n>', 'Crash' or 'OutOfMemory'"
            report.add(place, f"{quoted(name)} is no kind of failure: use {form}")


def check_resources(report: Report, field: str, resources: pb.Resources, limits: Limits) -> None:
    for name in ("cpu", "gpu"):
        check_amount(report, f"{field}.{name}", getattr(resources, name), limits)
    check_amount(report, f"{field}.memory_bytes", resources.memory_bytes, limits)
    custom = resources.custom
    if len(custom) > limits.resources:
        report.add(f"{field}.custom", f"there are {len(custom):,}, past the limit of {limits.resources}: remove some")
        return
    for name in sorted(custom):
        place = f"{field}.custom[{member(name)}]"
        check_name(report, place, name, limits)
        if name in _OWN_RESOURCES:
            report.add(place, f"{name!r} has a field of its own: write {field}.{name}")
        check_amount(report, place, custom[name], limits)


def check_amount(report: Report, field: str, amount: float, limits: Limits) -> None:
    if math.isnan(amount) or math.isinf(amount):
        report.add(field, f"{amount} is no amount: use a finite number from 0 up")
    elif amount < 0:
        report.add(field, f"{amount} is negative: use a number from 0 up")
    elif amount > limits.resource_amount:
        report.add(field, f"{amount:g} is past the limit of {limits.resource_amount:g}: use less")


def check_priority(report: Report, field: str, priority: int, limits: Limits) -> None:
    if abs(priority) > limits.priority:
        report.add(field, f"{priority:,} is no priority: use a number from -{limits.priority:,} to {limits.priority:,}")


def check_weight(report: Report, field: str, weight: float, limits: Limits) -> None:
    """0 is what a field has that is not set."""
    if weight and not limits.least_weight <= weight <= limits.most_weight:
        bounds = f"from {limits.least_weight:g} to {limits.most_weight:g}"
        report.add(field, f"{weight:g} is no weight: use a number {bounds}, or leave it out")
