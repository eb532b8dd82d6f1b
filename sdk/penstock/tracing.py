"""What a program's own traces and Penstock's have to do with each other. Nothing of OpenTelemetry is imported for a
program that has not loaded it."""

from __future__ import annotations

import sys

LONGEST = 512
"""Characters of a header that a coordinator takes."""


def current_context() -> dict[str, str]:
    """The W3C headers of the span that the caller is in. Empty: it is in none, or has not loaded OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {name: value for name, value in carrier.items() if len(value) <= LONGEST}


def trace_link(template: str, trace_id: str) -> str:
    """Where people look at the trace. Empty: nobody has said where, or there is no id."""
    return template.replace("{trace_id}", trace_id) if template and trace_id else ""
