"""What is counted of calls: how many there are, how they end, how long they take.

A call is counted by whoever makes its answer. One that a follower passes on is the owner's; the follower counts it
apart. So the sum over all coordinators has each call once.
"""

from __future__ import annotations

from penstock_coordinator.core.counts.histogram import Histogram
from penstock_coordinator.core.plan.slo_tiers import SloTier

OK, REFUSED, FAILED = "ok", "refused", "failed"
"""Outcomes of submissions: refused is the caller's own fault, failed is ours."""
_CALLERS_FAULT = frozenset(
    {
        "ALREADY_EXISTS",
        "CANCELLED",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "OUT_OF_RANGE",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "UNIMPLEMENTED",
    }
)


class MethodCounts:
    """Of one method."""

    __slots__ = ("ended", "forwarded", "in_flight", "method", "seconds", "service")

    def __init__(self, service: str, method: str) -> None:
        self.service = service
        self.method = method
        self.in_flight = 0
        self.ended: dict[str, int] = {}
        """By code."""
        self.forwarded: dict[str, int] = {}
        """As `ended`, of calls that the owner answered."""
        self.seconds: Histogram | None = None
        """None of one that streams: it lasts as long as its caller likes."""

    def end(self, code: str, seconds: float) -> None:
        self.ended[code] = self.ended.get(code, 0) + 1
        if self.seconds is not None:
            self.seconds.add(seconds)

    def pass_back(self, code: str) -> None:
        self.forwarded[code] = self.forwarded.get(code, 0) + 1


class CallCounts:
    def __init__(self) -> None:
        self.methods: dict[str, MethodCounts] = {}
        """By path. Only methods that there are come here."""
        self.submissions: dict[tuple[SloTier, str], int] = {}
        """By tier and outcome."""

    def of(self, path: str, *, streams: bool) -> MethodCounts:
        """`path` is /package.Service/Method."""
        found = self.methods.get(path)
        if found is None:
            service, _, method = path.strip("/").partition("/")
            found = self.methods[path] = MethodCounts(service, method)
            if not streams:
                found.seconds = Histogram()
        return found

    def submitted(self, tier: SloTier, code: str) -> None:
        outcome = OK if code == "OK" else REFUSED if code in _CALLERS_FAULT else FAILED
        self.submissions[tier, outcome] = self.submissions.get((tier, outcome), 0) + 1
