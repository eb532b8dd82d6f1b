"""Messages that ask for runs, checked before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from penstock.authoring.options import require_priority, require_weight
from penstock.errors import DefinitionError, ParameterError
from penstock.json_values import plain_json
from penstock.v1 import run_pb2, run_service_pb2
from penstock.wire_values import to_value

N = TypeVar("N", int, float)


def start_request(
    pipeline: str,
    parameters: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    request_id: str,
    version: int = 0,
    trace_context: Mapping[str, str] | None = None,
    priority: int | None = None,
    weight: float | None = None,
    run_key: str = "",
    run_key_conflict: str = "",
    run_key_reuse: str = "",
    cache: str = "",
) -> run_service_pb2.StartRunRequest:
    """ParameterError for a value that is no JSON, a whole number beyond 2^53, a priority or weight out of bounds."""
    values = {
        name: to_value(plain_json(value, f"parameters.{name}", ParameterError)) for name, value in parameters.items()
    }
    return run_service_pb2.StartRunRequest(
        pipeline=pipeline,
        version_number=version,
        parameters=values,
        labels=labels,
        request_id=request_id,
        trace_context=trace_context or {},
        priority=None if priority is None else _checked(require_priority, priority, "priority"),
        weight=0.0 if weight is None else _checked(require_weight, weight, "weight"),
        run_key=run_key,
        run_key_conflict=_rule("run_key_conflict", run_key_conflict, run_service_pb2.RunKeyConflict),
        run_key_reuse=_rule("run_key_reuse", run_key_reuse, run_service_pb2.RunKeyReuse),
        cache_mode=_rule("cache_mode", cache, run_pb2.CacheMode),
    )


def _rule(field: str, given: str, rules: Any) -> Any:
    """The value with this short name in the enum `rules`; of none the first, which says nothing."""
    if not given:
        return 0
    prefix, known = f"{field.upper()}_", rules.keys()[1:]
    name = prefix + given.upper()
    if name not in known:
        shorts = [each.removeprefix(prefix).lower() for each in known]
        raise ParameterError(f"{given!r} is not known", field=field, remedy=f"use {' or '.join(shorts)}")
    return rules.Value(name)


def _checked(require: Callable[[Any, str], N], given: Any, field: str) -> N:
    """What belongs to a definition there belongs to the parameters of a call here."""
    try:
        return require(given, field)
    except DefinitionError as error:
        raise ParameterError(error.message, field=error.field, remedy=error.remedy) from None
