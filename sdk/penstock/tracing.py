"""What a program's own traces and Penstock's have to do with each other. Nothing of OpenTelemetry is imported for a
program that has not loaded it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

LONGEST = 512
"""Characters of a header that a coordinator takes."""
_FOLLOWING = frozenset({"TailLogs", "WaitMany", "Watch"})


def current_context() -> dict[str, str]:
    """The W3C headers of the span that the caller is in. Empty: it is in none, or has not loaded OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {name: value for name, value in carrier.items() if len(value) <= LONGEST}


def client_interceptors() -> list[Any]:
    """Of a channel: calls are spans if the program has loaded OpenTelemetry's SDK, and its instrumentation of gRPC is
    installed. What follows a run is none: it would last as long as somebody looks."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return []
    try:
        from opentelemetry.instrumentation.grpc import aio_client_interceptors
    except ImportError:
        return []
    make: Callable[..., list[Any]] = aio_client_interceptors  # without types of its own
    return make(filter_=_is_traced)


def _is_traced(call: Any) -> bool:
    method = call.method.decode() if isinstance(call.method, bytes) else call.method
    return method.rpartition("/")[2] not in _FOLLOWING


def trace_link(template: str, trace_id: str) -> str:
    """Where people look at the trace. Empty: nobody has said where, or there is no id."""
    return template.replace("{trace_id}", trace_id) if template and trace_id else ""
