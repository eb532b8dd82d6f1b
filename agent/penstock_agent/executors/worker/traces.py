"""The trace that user code finds itself in, in a process that outlives the attempt.

Nothing of OpenTelemetry is loaded here unless user code has loaded it, or the trace is sampled and OTEL_* variables say
where spans go. Then there is a provider too, unless user code has set one: its spans are sent by a thread of its own,
after the attempt as well as during it, so that no attempt waits for a receiver.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextvars import Token

SERVICE = "penstock-step"
LAST_SPANS_SECONDS = 2.0
"""How long a process that ends waits for a receiver."""

_LOADED = "opentelemetry.context"
_HEADERS = ("traceparent", "tracestate")
_PLAIN = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class _Provider(Protocol):
    asked: bool
    """For a tracer."""

    def shutdown(self) -> None: ...


class StepTraces:
    """One attempt at a time: `enter` when its module is loaded, then `leave`."""

    def __init__(self) -> None:
        self._provider: _Provider | None = None
        self._looked = False
        """Whether there is to be a provider was found out."""
        self._loaded_here = False
        self._headers: dict[str, str] = {}
        """Of the attempt before: all of a run that is not sampled have the same, and to read them takes as long as to
        call a short step."""
        self._context: Any = None

    def enter(self, context: Mapping[str, str]) -> Token[Any] | None:
        """`context`: W3C headers. What it gives is for `leave`. No fault of tracing is one of the step: what is set
        wrongly, or does not fit together in its environment, makes no span."""
        try:
            return self._enter(context)
        except Exception:
            return None

    def _enter(self, context: Mapping[str, str]) -> Token[Any] | None:
        sampled = context.get("traceparent", "").endswith("-01")
        if _LOADED not in sys.modules:
            if not (sampled and is_configured(os.environ)):
                return None
            self._loaded_here = True
        elif not sampled and self._nobody_asks():
            return None
        try:
            from opentelemetry import context as contexts
        except ImportError:
            return None  # variables without the packages: the environment of a step need not have them
        if sampled and not self._looked:
            self._looked = True
            self._provider = _provide()
        headers = {name: context[name] for name in _HEADERS if name in context}
        if headers != self._headers:
            self._headers, self._context = headers, _extracted(headers)
        token: Token[Any] = contexts.attach(self._context)
        return token

    def _nobody_asks(self) -> bool:
        """It was loaded here, and no code of the user has wanted a tracer since."""
        return self._loaded_here and self._provider is not None and not self._provider.asked

    def leave(self, token: Token[Any] | None) -> None:
        """Never raises: a step that has changed the context itself has had its way."""
        if token is not None:
            from opentelemetry import context as contexts

            contexts.detach(token)

    def close(self) -> None:
        """The process ends: what was not sent yet is, if that does not take too long."""
        if self._provider is not None:
            last = threading.Thread(target=self._provider.shutdown, daemon=True)
            last.start()
            last.join(LAST_SPANS_SECONDS)


def _extracted(headers: Mapping[str, str]) -> Any:
    """What a coordinator makes is well-formed, and taken apart at half the price."""
    from opentelemetry import trace

    parent = headers.get("traceparent", "")
    if len(headers) == 1 and _PLAIN.fullmatch(parent):
        flags = trace.TraceFlags(int(parent[53:], 16))
        span = trace.SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(trace.NonRecordingSpan(span))
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(headers)


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether OTEL_* variables say that spans are sent, and by OTLP over gRPC."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    default = "otlp" if any(environment.get(name) for name in endpoints) else "none"
    return (environment.get("OTEL_TRACES_EXPORTER") or default) == "otlp"


def _provide() -> _Provider | None:
    """None: user code has set one, or the packages are not there."""
    from opentelemetry import trace

    if not is_configured(os.environ) or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return None
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in given

    class Provider(TracerProvider):
        asked = False

        def get_tracer(self, *given: Any, **named: Any) -> Any:
            self.asked = True
            return super().get_tracer(*given, **named)

    provider = Provider(resource=Resource.create(None if named else {"service.name": SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
