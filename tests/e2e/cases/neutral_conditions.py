"""From the cases' conditions to CEL."""

from __future__ import annotations

import json
import re
from typing import Any

STATES = {
    "SUCCEEDED": "COMPLETED",
    "NOT_RUN_UPSTREAM": "UPSTREAM_FAILED",
    "FAILED": "FAILED",
    "SKIPPED": "SKIPPED",
    "CANCELLED": "CANCELLED",
}
_COMPARISONS = {"gt": ">", "ge": ">=", "gte": ">=", "lt": "<", "le": "<=", "lte": "<=", "eq": "==", "ne": "!="}
_ARGO_STATES = {"Succeeded": "COMPLETED", "Failed": "FAILED", "Skipped": "SKIPPED", "Omitted": "UPSTREAM_FAILED"}
_ARGO = re.compile(r"([A-Za-z_][\w-]*)\.(\w+)|(&&|\|\||!|\(|\)|\s+)")


class UnknownInCase(Exception):
    """The case says what nobody taught the translation. It must fail: a case that is left out looks like a good one."""


def condition(said: Any) -> str:
    """The CEL of a condition."""
    match said:
        case bool():
            return "true" if said else "false"
        case {"not": inner, **rest} if not rest:
            return f"!({condition(inner)})"
        case {"is_null": inner, **rest} if not rest:
            return f"{operand(inner)} == null"
        case {"in": [what, where], **rest} if not rest:
            return f"{operand(what)} in {operand(where)}"
        case {"and": [*parts], **rest} if not rest:
            return " && ".join(f"({condition(part)})" for part in parts)
        case {"or": [*parts], **rest} if not rest:
            return " || ".join(f"({condition(part)})" for part in parts)
        case dict() if len(said) == 1 and (name := next(iter(said))) in _COMPARISONS:
            left, right = said[name]
            return f"{operand(left)} {_COMPARISONS[name]} {operand(right)}"
        case {"param": _} | {"output": _} | {"item": _}:
            return operand(said)
    raise UnknownInCase(f"the condition {said!r}")


def operand(said: Any) -> str:
    match said:
        case {"param": str(name), **rest} if not rest:
            return f"params[{json.dumps(name)}]"
        case {"output": str(step), **rest} if rest.keys() <= {"path"}:
            return f"steps[{json.dumps(step)}].output" + _path(said.get("path", []))
        case {"state": str(step), **rest} if not rest:
            return f"steps[{json.dumps(step)}].state"
        case {"item": True, **rest} if not rest:
            return "item"
        case {"item": list(path), **rest} if not rest:
            return "item" + _path(path)
        case {"const": value, **rest} if not rest:
            return json.dumps(value)
        case str() if said in STATES:
            return json.dumps(STATES[said])
        case None | bool() | int() | float() | str() | list():
            return json.dumps(said)
    raise UnknownInCase(f"the operand {said!r}")


def _path(path: list[str | int]) -> str:
    return "".join(f"[{json.dumps(member)}]" for member in path)


def argo_expression(text: str) -> str:
    """The CEL of Argo's `depends`, such as `A.Succeeded || (B.Failed && !C.Skipped)`."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        found = _ARGO.match(text, at)
        if found is None or (found[2] is not None and found[2] not in _ARGO_STATES):
            raise UnknownInCase(f"the expression {text!r}")
        step, state, sign = found.groups()
        parts.append(sign or f'(steps["{step}"].state == "{_ARGO_STATES[state]}")')
        at = found.end()
    return "".join(parts)


def reads(said: Any, kind: str) -> set[str]:
    """The names that a condition or value refers to as the kind given, for example of outputs."""
    if isinstance(said, list):
        return set().union(*(reads(each, kind) for each in said))
    if not isinstance(said, dict):
        return set()
    own = {said[kind]} if isinstance(said.get(kind), str) else set()
    return own.union(*(reads(each, kind) for each in said.values()))
