"""Conditions as small trees: written as CEL for the system, and evaluated here without it.

`("compare", operator, a, b)`, `("and", a, b)`, `("or", a, b)`, `("not", a)`, `("size", a)`, `("remainder", a, n)`,
`("quotient", n, a)`, `("literal", v)`, `("parameter", name)`, `("state", step)`, `("output", step, path)`,
`("has", step, path)` and `("item", path)`, where a path is a tuple of members and positions, wrapped in a list.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.e2e.random_dags.dags import Expression, Json

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class ConditionFails(Exception):
    """There is no answer: the step fails."""


@dataclass(frozen=True)
class Scene:
    """What a condition may look at."""

    parameters: dict[str, Json]
    states: dict[str, str]
    outputs: dict[str, Json]
    """Null of what is not COMPLETED."""
    item: Json = None


def written(expression: Expression) -> str:
    """As CEL."""
    match expression:
        case ("compare", sign, left, right):
            return f"({written(left)} {sign} {written(right)})"
        case ("and", left, right):
            return f"({written(left)} && {written(right)})"
        case ("or", left, right):
            return f"({written(left)} || {written(right)})"
        case ("not", inner):
            return f"!{written(inner)}"
        case ("size", inner):
            return f"size({written(inner)})"
        case ("remainder", inner, number):
            return f"({written(inner)} % {number})"
        case ("quotient", number, inner):
            return f"({number} / {written(inner)})"
        case ("literal", value):
            return json.dumps(value)
        case ("parameter", name):
            return f"params.{name}"
        case ("state", step):
            return f"{_step(step)}.state"
        case ("output", step, path):
            return f"{_step(step)}.output{_path(path)}"
        case ("has", step, path):
            return f"has({_step(step)}.output{_path(path)})"
        case ("item", path):
            return f"item{_path(path)}"
    raise NotImplementedError(expression)


def _step(name: str) -> str:
    return f"steps.{name}" if name.isidentifier() else f"steps[{json.dumps(name)}]"


def _path(path: list[str | int]) -> str:
    return "".join(f".{each}" if isinstance(each, str) else f"[{each}]" for each in path)


def holds(expression: Expression, scene: Scene) -> bool:
    """Raises `ConditionFails`."""
    match expression:
        case ("and", left, right):
            return _decided(left, right, scene, by=False)
        case ("or", left, right):
            return _decided(left, right, scene, by=True)
        case ("not", inner):
            return not holds(inner, scene)
        case ("compare", sign, left, right):
            return _compared(sign, _value(left, scene), _value(right, scene))
        case ("has", step, path):
            try:
                _followed(scene.outputs[step], path)
            except ConditionFails:
                return False
            return True
    raise NotImplementedError(expression)


def _decided(left: Expression, right: Expression, scene: Scene, by: bool) -> bool:
    """One part that decides is enough, whatever is wrong with the other one."""
    failed = None
    for part in (left, right):
        try:
            if holds(part, scene) is by:
                return by
        except ConditionFails as error:
            failed = error
    if failed is not None:
        raise failed
    return not by


def _compared(sign: str, left: Json, right: Json) -> bool:
    if sign in ("==", "!="):
        return (_kind(left) == _kind(right) and left == right) is (sign == "==")
    if _kind(left) != _kind(right) or _kind(left) not in ("number", "str"):
        raise ConditionFails(f"{left!r} {sign} {right!r}")
    return _ORDERS[sign](left, right)


def _kind(value: Json) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _value(expression: Expression, scene: Scene) -> Json:
    match expression:
        case ("literal", value):
            return value
        case ("parameter", name):
            return scene.parameters[name]
        case ("state", step):
            return scene.states[step]
        case ("output", step, path):
            return _followed(scene.outputs[step], path)
        case ("item", path):
            return _followed(scene.item, path)
        case ("size", inner):
            found = _value(inner, scene)
            if not isinstance(found, str | list | dict):
                raise ConditionFails(f"size of {found!r}")
            return len(found)
        case ("remainder", inner, number):
            return _number(_value(inner, scene)) % number
        case ("quotient", number, inner):
            divisor = _number(_value(inner, scene))
            if divisor == 0:
                raise ConditionFails("a division by zero")
            return number // divisor
    raise NotImplementedError(expression)


def _number(value: Json) -> int:
    if _kind(value) != "number":
        raise ConditionFails(f"{value!r} is no number")
    return int(value)


def _followed(value: Json, path: list[str | int]) -> Json:
    for member in path:
        try:
            if isinstance(value, str) or isinstance(member, str) is not isinstance(value, dict):
                raise TypeError
            value = value[member]
        except (TypeError, LookupError):
            raise ConditionFails(f"there is no {member!r} in {value!r}") from None
    return value
