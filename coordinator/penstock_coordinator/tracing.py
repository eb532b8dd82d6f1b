"""Traces of this process, if they are configured. Only then anything of OpenTelemetry is loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from penstock_coordinator.identity import CannotStart
from penstock_coordinator.runtime.span_exporter import ExportPace, SpanExporter
from penstock_coordinator.runtime.traces import Traces
from penstock_coordinator.trace_settings import BadTraceSettings, TraceSettings, trace_settings

if TYPE_CHECKING:
    from penstock_coordinator.adapters.otlp import CallTracing
    from penstock_coordinator.runtime.supervisor import Supervisor


class Tracing:
    """Of one process: calls are spans for as long as it lives, runs while it owns them."""

    def __init__(self, settings: TraceSettings, calls: CallTracing) -> None:
        self._settings = settings
        self.calls = calls

    def exporter(self, supervisor: Supervisor) -> SpanExporter:
        """For a supervisor that has no runs yet: it samples them from now on."""
        from penstock_coordinator.adapters.otlp import OtlpSink

        supervisor.traces = Traces(self._settings.sampler)
        pace = ExportPace(self._settings.seconds, self._settings.batch)
        return SpanExporter(supervisor, supervisor.traces, OtlpSink(), pace)


def open_tracing() -> Tracing | None:
    """None: the environment asks for no traces. Raises `CannotStart`."""
    try:
        settings = trace_settings(os.environ)
    except BadTraceSettings as error:
        raise CannotStart(str(error)) from None
    if settings is None:
        return None
    try:
        from penstock_coordinator.adapters.otlp import CallTracing, check_headers
    except ImportError as error:
        raise CannotStart(
            f"traces are configured (OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER), and {error.name} is not"
            " installed: pip install 'penstock[coordinator]', or set OTEL_TRACES_EXPORTER=none"
        ) from None
    try:
        check_headers()
    except BadTraceSettings as error:
        raise CannotStart(str(error)) from None
    return Tracing(settings, CallTracing())
