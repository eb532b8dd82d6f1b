"""Fields that many requests have, from their wire form to the core's, or an error that names the field."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from penstock_coordinator.api.errors import Violation, invalid, invalid_fields, shown
from penstock_coordinator.core.plan.naming import NAME, name_form, quoted
from penstock_coordinator.core.plan.naming import run_id_text as run_id_text
from penstock_coordinator.core.plan.validation.numbers import check_priority, check_weight
from penstock_coordinator.core.plan.validation.report import Enough, Report
from penstock_coordinator.core.plan.validation.texts import check_labels

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import RunId

LARGEST_INT = 2**31 - 2
"""Of version numbers, items and attempts: what the database counts with."""
LARGEST_EVENT = 2**62
TRACE_KEYS = 8
TRACE_BYTES = 512
_RUN_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def run_id_of(text: str, field: str = "run_id") -> RunId:
    """The 16 bytes of a UUID in its usual form."""
    if not text:
        raise invalid(field, "is required: the id of a run, as `penstock list` (List) and Start give it")
    if not _RUN_ID.fullmatch(text):
        raise invalid(field, f"{shown(text)} is no run id: `penstock list` (List) shows the ids of runs")
    return bytes.fromhex(text.replace("-", ""))


def name_of(text: str, field: str, what: str) -> str:
    """`what` the field names, for the message: "a pipeline"."""
    if not text:
        raise invalid(field, f"is required: the name of {what}")
    if not NAME.fullmatch(text):
        raise invalid(field, f"{shown(text)} is no name of {what}: {name_form()}")
    return text


def digest_of(text: str, field: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise invalid(field, "must be a SHA-256 in 64 lower-case hex digits")
    return text


def count_of(number: int, field: str) -> int:
    """0 means what the field says for it."""
    if not 0 <= number <= LARGEST_INT:
        raise invalid(field, f"must be between 0 and {LARGEST_INT:,}")
    return number


def event_of(number: int, field: str) -> int:
    """0 means what the field says for it."""
    if not 0 <= number <= LARGEST_EVENT:
        raise invalid(field, "must be the number of an event, or 0")
    return number


def place_in(item: Sequence[int], step: str, plan: Plan) -> tuple[int, ...]:
    """The place in the map of that step; () for none."""
    if not item:
        return ()
    if not step:
        raise invalid("item", "needs a step: name the mapped step that the item is of")
    depth = plan.steps[plan.numbers[step]].depth
    if len(item) != depth:
        raise invalid("item", _depth_remedy(step, depth))
    if not all(0 <= position <= LARGEST_INT for position in item):
        raise invalid("item", f"positions are between 0 and {LARGEST_INT:,}")
    return tuple(item)


def _depth_remedy(step: str, depth: int) -> str:
    if not depth:
        return f"the step {quoted(step)} is not mapped: leave the item out"
    if depth == 1:
        return f"the step {quoted(step)} has one level: give one number from 0 on"
    return f"the step {quoted(step)} is nested {depth} levels deep: give {depth} numbers from 0 on"


def states_of(
    asked: Iterable[int], known: Iterable[int], field: str = "states", what: str = "state"
) -> tuple[int, ...]:
    """Those to filter by; empty for all."""
    states = tuple(asked)
    wrong = set(states) - set(known) | ({0} & set(states))
    if wrong:
        raise invalid(field, f"{min(wrong)} is no {what} to filter by: name those wanted, or leave it out for all")
    return states


def span_of(span: Duration, field: str, longest: int) -> int:
    """Microseconds, from 0 to `longest`."""
    if not (abs(span.nanos) < 10**9 and span.seconds * span.nanos >= 0):
        raise invalid(field, "is no valid duration: seconds and nanos must have the same sign, nanos below 10^9")
    value = span.seconds * 1_000_000 + span.nanos // 1_000
    if not 0 <= value <= longest:
        raise invalid(field, f"must be between 0 s and {longest // 1_000_000:,} s")
    return value


def instant_of(message: Message, name: str, field: str) -> int | None:
    """Microseconds since 1970 of a timestamp that the message may have; None if it has not. `field` names the
    message, if it is within another."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    if not (0 <= stamp.nanos < 10**9 and 0 <= stamp.seconds < 2**38):
        raise invalid(f"{field}.{name}".lstrip("."), "is no valid instant")
    return stamp.seconds * 1_000_000 + stamp.nanos // 1_000


def text_of(text: str, field: str, longest: int) -> str:
    """A line for people."""
    if len(text) > longest or "\0" in text:
        raise invalid(field, f"must be a text of at most {longest:,} characters without NUL")
    return text


def labels_of(labels: Mapping[str, str], field: str, limits: Limits) -> dict[str, str]:
    """As in a specification."""
    report = Report()
    with contextlib.suppress(Enough):
        check_labels(report, field, labels, limits)
    _refuse(report)
    return dict(labels)


def priority_of(priority: int, field: str, limits: Limits) -> int:
    """As in a specification."""
    report = Report()
    check_priority(report, field, priority, limits)
    _refuse(report)
    return priority


def weight_of(weight: float, field: str, limits: Limits) -> float:
    """As in a specification: 0 is none."""
    report = Report()
    check_weight(report, field, weight, limits)
    _refuse(report)
    return weight


def _refuse(report: Report) -> None:
    if report.problems:
        raise invalid_fields(Violation(each.field, each.description) for each in report.problems)


def trace_context_of(context: Mapping[str, str], field: str) -> tuple[tuple[str, str], ...]:
    """W3C trace context: a few short ASCII headers."""
    if len(context) > TRACE_KEYS:
        raise invalid(field, f"has {len(context)} entries, and {TRACE_KEYS} is the limit")
    for key, value in context.items():
        if not all(len(text) <= TRACE_BYTES and text.isascii() and text.isprintable() for text in (key, value)):
            raise invalid(field, f"{shown(key)}: keys and values are at most {TRACE_BYTES} printable ASCII characters")
    return tuple(sorted(context.items()))
