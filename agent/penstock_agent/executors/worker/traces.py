"""The trace that user code finds itself in, in a process that outlives the attempt.

Nothing of OpenTelemetry is loaded here unless user code has loaded it, or the trace is sampled and OTEL_* variables say
where spans go. Then its interfaces are, which is enough for user code to find its parent wherever and whenever it
looks for it; what makes and sends spans is loaded when somebody asks for a tracer (`trace_provider`). A provider that
user code has set stays.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextvars import Token

    from penstock_agent.executors.worker.trace_provider import StepProvider
    from penstock_agent.executors.worker.unsampled_span import UnsampledContext

LAST_SPANS_SECONDS = 2.0
"""How long a process that ends waits for a receiver."""

_LOADED = "opentelemetry.context"
_SDK = "opentelemetry.sdk.trace"
_HEADERS = ("traceparent", "tracestate")
_ODD = frozenset("13579bdf")
_PLAIN = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE_PERSON = b"penstock.trace"


class StepTraces:
    """One attempt at a time: `enter` when its module is loaded, then `leave`."""

    def __init__(self) -> None:
        self._provider: StepProvider | None = None
        self._looked = False
        """Whether there is to be a provider was found out."""
        self._absent = False
        """There are variables without the packages: the environment of a step need not have them."""
        self._told: Mapping[str, str] | None = None
        """To the attempt before: all of a run that is not sampled are told the same, and to read it takes as long as to
        call a short step."""
        self._headers: dict[str, str] = {}
        self._sampled = False
        self._context: Any = None
        """None: not made of the headers yet."""
        self._unsampled: UnsampledContext | None = None
        """What attempts of runs that nobody samples find; None: nothing of OpenTelemetry was loaded yet."""

    def enter(self, context: Mapping[str, str]) -> Token[Any] | None:
        """`context`: W3C headers. What it gives is for `leave`. No fault of tracing is one of the step: what is set
        wrongly, or does not fit together in its environment, makes no span."""
        try:
            return self._enter(context)
        except Exception:
            return None

    def enter_unsampled(self, run_id: str) -> None:
        """The attempt is in the trace of a run that nobody samples and that had no caller. What is loaded there finds
        that it makes no span; which trace it is in is found out when somebody asks. Stays until another attempt is
        entered: most are like it, and to attach a context and to take it back takes a tenth of a short step."""
        if self._unsampled is None and _LOADED not in sys.modules:
            return
        try:
            if self._unsampled is None:
                from penstock_agent.executors.worker.unsampled_span import UnsampledContext

                self._unsampled = UnsampledContext()
            self._unsampled.stand_for(run_id)
        except Exception:
            self._unsampled = None

    def enter_none(self) -> None:
        """The attempt is in no trace."""
        if self._unsampled is not None:
            self._unsampled.stand_down()
            self._unsampled = None

    def _enter(self, context: Mapping[str, str]) -> Token[Any] | None:
        if context != self._told:
            self._told, self._headers, self._context = context, _headers(context), None
            self._sampled = is_sampled(self._headers.get("traceparent", ""))
        if _LOADED not in sys.modules and (not self._sampled or self._absent or not is_configured(os.environ)):
            return None
        try:
            return self._attach()
        except ImportError:
            self._absent = True
            return None

    def _attach(self) -> Token[Any]:
        from opentelemetry import context as contexts

        if self._sampled and not self._looked:
            self._looked = True
            self._provider = self._provide()
        if self._context is None:
            self._context = _extracted(self._headers)
        token: Token[Any] = contexts.attach(self._context)
        return token

    def _provide(self) -> StepProvider | None:
        """None: user code has set one, or no variables ask for one."""
        from opentelemetry import trace

        if not is_configured(os.environ) or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return None
        from penstock_agent.executors.worker.trace_provider import StepProvider

        provider = StepProvider()
        # Who has loaded the SDK may look for the class of its provider.
        given = provider.made() if sys.modules.get(_SDK) else provider
        if hasattr(trace, "_TRACER_PROVIDER"):
            # `set_tracer_provider` takes one in the life of a process: it is left to a module that comes later.
            trace._TRACER_PROVIDER = given  # noqa: SLF001 - there is no other way that leaves it
        else:
            trace.set_tracer_provider(given)
        return provider

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


def _headers(context: Mapping[str, str]) -> dict[str, str]:
    """What user code may need of it. Names are as the caller of the run wrote them."""
    return {name.lower(): value for name, value in context.items() if name.lower() in _HEADERS}


def derived_traceparent(run_id: str) -> str:
    """Of a run that nobody samples and that had no caller; its id follows from the run's as `LeaseGrant.unsampled` says
    it. The span is nobody's: none is made."""
    import hashlib  # most step processes do without

    run = bytes.fromhex(run_id.replace("-", ""))
    trace_id = hashlib.blake2b(run, digest_size=16, person=_TRACE_PERSON).hexdigest()
    return f"00-{trace_id}-{trace_id[:15]}1-00"


def is_sampled(traceparent: str) -> bool:
    """By the lowest of the flags alone."""
    return traceparent[-1:] in _ODD


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
