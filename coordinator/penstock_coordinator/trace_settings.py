"""Whether traces are wanted, and which: OpenTelemetry's own variables, by its own names and meanings.

Where spans go, and how (endpoint, headers, certificates, compression, timeout), and the attributes of the resource, are
read by its SDK; here is what Penstock decides itself. Without an endpoint, or an exporter that is named, nothing of
OpenTelemetry is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock_coordinator.core.traces.sampling import Sampler, ratio

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_BY_PARENT = "parentbased_"
_DEFAULT_SAMPLER = "parentbased_always_on"


class BadTraceSettings(Exception):
    """Names the variable and the remedy."""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    sampler: Sampler
    seconds: float
    """Between two passes of the exporter."""
    batch: int
    """Spans of one call."""


def trace_settings(environment: Mapping[str, str]) -> TraceSettings | None:
    """None: no traces. Raises `BadTraceSettings`."""
    given = {name: value.strip() for name, value in environment.items() if name.startswith("OTEL_") and value.strip()}
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    exporter = given.get("OTEL_TRACES_EXPORTER", "otlp" if any(name in given for name in ENDPOINTS) else "none")
    if exporter == "none":
        return None
    if exporter != "otlp":
        raise BadTraceSettings(f"OTEL_TRACES_EXPORTER={exporter!r}: Penstock sends OTLP alone: write otlp, or none")
    for name in PROTOCOLS:
        if name in given and given[name] != "grpc":
            raise BadTraceSettings(
                f"{name}={given[name]!r}: Penstock sends OTLP over gRPC alone: write grpc, and the port for it (4317)"
            )
    return TraceSettings(
        _sampler(given),
        _number(given, "OTEL_BSP_SCHEDULE_DELAY", 5_000, 1, 3_600_000) / 1_000,
        int(_number(given, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1, 65_536)),
    )


def _sampler(given: Mapping[str, str]) -> Sampler:
    name = given.get("OTEL_TRACES_SAMPLER", _DEFAULT_SAMPLER).lower()
    by_parent = name.startswith(_BY_PARENT)
    kind = name.removeprefix(_BY_PARENT)
    if kind not in _SAMPLERS:
        known = ", ".join((*_SAMPLERS, *(_BY_PARENT + each for each in _SAMPLERS)))
        raise BadTraceSettings(f"OTEL_TRACES_SAMPLER={name!r}: write one of {known}")
    if kind == "traceidratio":
        return ratio(_number(given, "OTEL_TRACES_SAMPLER_ARG", 1.0, 0.0, 1.0), by_parent=by_parent)
    return ratio(1.0 if kind == "always_on" else 0.0, by_parent=by_parent)


def _number(given: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    try:
        value = float(given.get(name, default))
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise BadTraceSettings(f"{name}={given[name]!r}: write a number from {least:g} to {most:g}")
    return value
