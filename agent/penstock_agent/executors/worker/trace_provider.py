"""OpenTelemetry's provider of tracers, made when somebody asks for one.

To load what makes and sends spans takes some tenths of a second and 20 MB, and the threads that come with it are never
quite idle; a step that asks for no tracer needs none of it. Loaded only where `traces` has loaded the interfaces.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from opentelemetry import trace

SERVICE = "penstock-step"
LONGEST_MAKING_SECONDS = 5.0
"""Then another thread goes on without spans: what makes the provider may wait for it, with the lock of an import."""


class StepProvider(trace.TracerProvider):
    """Stands for the SDK's provider, in all that this has. Where the packages are not there, or the variables do not
    fit together, its tracers make no spans: no fault of tracing is one of the step."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._maker: int | None = None
        """The thread that makes it."""
        self._made: trace.TracerProvider | None = None

    def get_tracer(self, *given: Any, **named: Any) -> trace.Tracer:
        return self.made().get_tracer(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made(), name)

    def made(self) -> trace.TracerProvider:
        """What sends its spans is not traced itself: its channel asks too, where user code has instrumented gRPC."""
        if self._made is not None:
            return self._made
        if self._maker == threading.get_ident() or not self._making.acquire(timeout=LONGEST_MAKING_SECONDS):
            return trace.NoOpTracerProvider()
        try:
            if self._made is None:
                self._maker = threading.get_ident()
                self._made = _made()
            return self._made
        finally:
            self._maker = None
            self._making.release()

    def shutdown(self) -> None:
        """What was not sent yet is."""
        if self._made is not None and not isinstance(self._made, trace.NoOpTracerProvider):
            self.made().shutdown()  # type: ignore[attr-defined]


def _made() -> trace.TracerProvider:
    """Its spans are sent by a thread of its own, so that no attempt waits for a receiver."""
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # A header that it cannot read is told as it is, key and all, and what is told here is the log of a step.
        logging.getLogger("opentelemetry.util.re").setLevel(logging.ERROR)
        given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in given
        provider = TracerProvider(resource=Resource.create(None if named else {"service.name": SERVICE}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception:
        return trace.NoOpTracerProvider()
    return provider
