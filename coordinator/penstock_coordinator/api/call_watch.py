"""Counts calls on their way through the guard: how many, how they end, how long they take.

What starts runs is counted by the tier of its pipeline besides, which is known only while the call is looked at:
whoever finds it notes it, in the context that a call has to itself.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc

from penstock.v1 import run_service_pb2
from penstock_coordinator.core.plan.slo_tiers import SloTier

if TYPE_CHECKING:
    from penstock_coordinator.core.counts.calls import CallCounts

_RUNS = run_service_pb2.DESCRIPTOR.services_by_name["RunService"]
SUBMISSIONS = frozenset(f"/{_RUNS.full_name}/{_RUNS.methods_by_name[name].name}" for name in ("Start", "StartMany"))

_NAMES: dict[object, str] = {code.value[0]: code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
"""Of codes as a call has them."""
_noted: ContextVar[SloTier | None] = ContextVar("slo_tier", default=None)


def note_tier(tier: SloTier) -> None:
    """Of a pipeline that the call under way starts a run of. Of several the one that matters most counts."""
    former = _noted.get()
    if former is None or tier < former:
        _noted.set(tier)


def count_refused(counts: CallCounts, path: str, code: str) -> None:
    """A call that is not even read. Of its method others were read before, so that it is known."""
    method = counts.methods.get(path)
    if method is not None:
        method.ended[code] = method.ended.get(code, 0) + 1
    if path in SUBMISSIONS:
        counts.submitted(SloTier.DEFAULT, code)


class CallWatch:
    """The calls of one method."""

    def __init__(self, counts: CallCounts, path: str, *, streams: bool, passes_on: bool) -> None:
        self.counts = counts
        self.method = counts.of(path, streams=streams)
        self.submits = path in SUBMISSIONS
        self.passes_on = passes_on
        """The answers are another coordinator's."""

    def begin(self) -> WatchedCall:
        if self.submits:
            _noted.set(None)
        if not self.passes_on:
            self.method.in_flight += 1
        return WatchedCall(self)


class WatchedCall:
    __slots__ = ("_began", "_code", "_passed", "_watch")

    def __init__(self, watch: CallWatch) -> None:
        self._watch = watch
        self._began = time.monotonic()
        self._code = ""
        self._passed = False

    def answered(self, *, passed_on: bool) -> None:
        """`passed_on`: the answer is another coordinator's."""
        self._code, self._passed = "OK", passed_on or self._watch.passes_on

    def failed(self, code: str, *, passed_back: bool) -> None:
        """`passed_back`: the failure is another coordinator's answer."""
        self._code, self._passed = code, passed_back

    def end(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """To be called once, however the call ended."""
        watch, method = self._watch, self._watch.method
        if not watch.passes_on:
            method.in_flight -= 1
        code = self._code or _broken_off(context)
        if self._passed:
            method.pass_back(code)
            return
        method.end(code, time.monotonic() - self._began)
        if watch.submits:
            tier = _noted.get()
            watch.counts.submitted(SloTier.DEFAULT if tier is None else tier, code)


def _broken_off(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The code of a call that no answer of ours has ended: a handler broke it off itself, its caller went away, or its
    time was over."""
    code = _NAMES.get(context.code())
    if code is not None:
        return code
    left: float | None = context.time_remaining()  # None of a call that may last for ever, whatever its type says
    return "CANCELLED" if left is None or left > 0 else "DEADLINE_EXCEEDED"
