"""Which traces are sampled: decided by the trace id alone, so that everybody decides alike, and at any time."""

from __future__ import annotations

from typing import NamedTuple

from penstock_coordinator.core.traces.ids import Trace

_ALL = 1 << 64
"""What a ratio is of: OpenTelemetry compares the lower half of a trace id, in all languages."""


class Sampler(NamedTuple):
    bound: int
    """Of 2^64: a trace whose lower 64 bits are less is sampled."""
    by_parent: bool = True
    """What has a caller is sampled if the caller's trace is."""

    def samples(self, trace: Trace) -> bool:
        if self.by_parent and trace.sampled is not None:
            return trace.sampled
        return int.from_bytes(trace.trace_id[8:], "big") < self.bound


def ratio(share: float, *, by_parent: bool) -> Sampler:
    """`share` in [0, 1]."""
    return Sampler(round(share * _ALL), by_parent)
