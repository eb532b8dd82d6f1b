"""What operators compute.

Values are plain JSON. All numbers compare with each other by value, whole numbers exactly; true is no number. Values
of different kinds are unequal, never an error. A whole number divided by a whole number is cut towards zero. `text` is
the part of the source that a message names.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from penstock_coordinator.core.plan.cel.errors import ConditionError
from penstock_coordinator.core.plan.cel.frame import Frame
from penstock_coordinator.core.plan.cel.functions import kind_of
from penstock_coordinator.core.plan.model import Json

_NUMBERS = (int, float)
_COPIED_PER_UNIT = 16
_SCANNED_PER_UNIT = 16
_INT_LIMIT = 2**63


def truth(value: Json, text: str) -> bool:
    if value is True or value is False:
        return bool(value)
    raise ConditionError(f"{text} is {kind_of(value).value}, not true or false")


def equal(frame: Frame, left: Json, right: Json) -> bool:
    """By value: 1 equals 1.0, true does not equal 1; lists and objects member by member."""
    kind, other = type(left), type(right)
    if kind is list and other is list:
        frame.spend(len(left))
        return len(left) == len(right) and all(equal(frame, a, b) for a, b in zip(left, right, strict=True))
    if kind is dict and other is dict:
        frame.spend(len(left))
        return left.keys() == right.keys() and all(equal(frame, value, right[key]) for key, value in left.items())
    if kind is other:
        return bool(left == right)
    return kind in _NUMBERS and other in _NUMBERS and bool(left == right)


COMPARISONS: dict[str, Callable[[Json, Json], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(holds: Callable[[Json, Json], bool], left: Json, right: Json, text: str) -> bool:
    kind, other = type(left), type(right)
    if (kind in _NUMBERS and other in _NUMBERS) or (kind is other and kind in (str, bool)):
        return holds(left, right)
    raise ConditionError(f"{text}: {kind_of(left).value} and {kind_of(right).value} have no order")


def contained(frame: Frame, needle: Json, container: Json, text: str) -> bool:
    if type(container) is dict:
        return type(needle) is str and needle in container
    if type(container) is not list:
        hint = ": use contains() for texts" if type(container) is str else ""
        raise ConditionError(f"{text}: {kind_of(container).value} is no list and no object{hint}")
    if needle is None or type(needle) is str:
        # Nothing but a text equals a text: the quick search is right.
        frame.spend(1 + len(container) // _SCANNED_PER_UNIT)
        return needle in container
    frame.spend(1 + len(container))
    return any(equal(frame, needle, each) for each in container)


def add(frame: Frame, left: Json, right: Json, text: str) -> Json:
    kind, other = type(left), type(right)
    if kind is other and kind in (str, list):
        frame.spend(1 + (len(left) + len(right)) // (_COPIED_PER_UNIT if kind is str else 1))
        return left + right
    return compute(operator.add, left, right, text)


def compute(operation: Callable[[Json, Json], Json], left: Json, right: Json, text: str) -> Json:
    if type(left) not in _NUMBERS or type(right) not in _NUMBERS:
        raise ConditionError(f"{text}: not for {kind_of(left).value} and {kind_of(right).value}")
    try:
        return _bounded(operation(left, right), text)
    except ZeroDivisionError:
        raise ConditionError(f"{text}: division by zero") from None
    except OverflowError:
        raise ConditionError(f"{text}: the number is too large") from None


def _bounded(value: int | float, text: str) -> int | float:
    if type(value) is int and not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ConditionError(f"{text}: the result has more than 64 bits")
    return value


def _divide(left: int | float, right: int | float) -> int | float:
    if type(left) is float or type(right) is float:
        return left / right
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int | float, right: int | float) -> int:
    if type(left) is not int or type(right) is not int:
        raise ConditionError("% is of whole numbers")
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


ARITHMETIC: dict[str, Callable[[Json, Json], Json]] = {
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _remainder,
}


def negate(value: Json, text: str) -> Json:
    if type(value) not in _NUMBERS:
        raise ConditionError(f"-{text}: {kind_of(value).value} is no number")
    return _bounded(-value, text)
