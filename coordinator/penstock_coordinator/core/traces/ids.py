"""The ids of traces and spans. All follow from the run's id and its journal, so that whoever builds a span, and however
often, gives it the same id: nothing is kept between the grant of a lease and the span that is made of it.
"""

from __future__ import annotations

import enum
import hashlib
import re
import struct
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

TraceContext: TypeAlias = tuple[tuple[str, str], ...]
"""W3C headers by name, as the caller of a run gave them."""

TRACEPARENT = "traceparent"
SAMPLED_FLAG = 1

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACE_PERSON, _SPAN_PERSON = b"penstock.trace", b"penstock.span"
_NAME = struct.Struct(">Bqqq")


class Kind(enum.IntEnum):
    """What a span is of. The numbers are part of the ids: they stay as they are."""

    RUN = 1
    """Of one generation."""
    STEP_RUN = 2
    """Of one generation."""
    QUEUED = 3
    ATTEMPT = 4
    """Of one lease."""
    LEASED = 5
    ENVIRONMENT = 6
    EXECUTION = 7
    """What user code has as its parent."""
    UPLOAD = 8


class Trace(NamedTuple):
    """The trace of a run."""

    trace_id: bytes
    """16 bytes, not all zero."""
    parent: bytes = b""
    """The caller's span, 8 bytes; empty: the run begins its trace."""
    sampled: bool | None = None
    """Whether the caller samples it; None: there is no caller."""


def trace_of(run_id: bytes, context: TraceContext) -> Trace:
    """The caller's trace, if the context has a `traceparent` that W3C's Trace Context allows; else one that follows
    from the id of the run."""
    for name, value in context:
        if name.lower() == TRACEPARENT and (found := _parse(value)) is not None:
            return found
    return Trace(_digest(run_id, 16, _TRACE_PERSON))


def _parse(value: str) -> Trace | None:
    match = _TRACEPARENT.fullmatch(value.strip().lower())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace_id, parent = bytes.fromhex(match[2]), bytes.fromhex(match[3])
    if not any(trace_id) or not any(parent):
        return None
    return Trace(trace_id, parent, bool(int(match[4], 16) & SAMPLED_FLAG))


class SpanIds:
    """Of the spans of one run: to hash its id once is half the price of another span's id."""

    __slots__ = ("_of_run",)

    def __init__(self, run_id: bytes) -> None:
        self._of_run = hashlib.blake2b(run_id, digest_size=8, person=_SPAN_PERSON)

    def of(self, kind: Kind, first: int, second: int = 0, third: int = 0) -> bytes:
        """8 bytes. RUN: the generation. STEP_RUN: step, item, generation. All others: step, item and the token of the
        lease."""
        digest = self._of_run.copy()
        digest.update(_NAME.pack(kind, first, second, third))
        return _not_zero(digest.digest())


def span_id(run_id: bytes, kind: Kind, first: int, second: int = 0, third: int = 0) -> bytes:
    """As `SpanIds` says, of one span alone."""
    return SpanIds(run_id).of(kind, first, second, third)


def _digest(data: bytes, size: int, person: bytes) -> bytes:
    return _not_zero(hashlib.blake2b(data, digest_size=size, person=person).digest())


def _not_zero(found: bytes) -> bytes:
    """All zero would be no id."""
    return found if any(found) else found[:-1] + b"\x01"


def traceparent(trace_id: bytes, parent: bytes, *, sampled: bool) -> str:
    return f"00-{trace_id.hex()}-{parent.hex()}-{'01' if sampled else '00'}"


def passed_on(context: TraceContext, parent: str) -> TraceContext:
    """The caller's context with another `traceparent`. The state of a trace belongs to it: without the caller's trace
    there is none."""
    others: Iterable[tuple[str, str]] = (each for each in context if each[0].lower() != TRACEPARENT)
    return ((TRACEPARENT, parent), *others)
