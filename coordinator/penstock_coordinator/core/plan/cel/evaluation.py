"""From a resolved tree to closures.

What the expression cannot bound before a run (the lengths of lists and texts) is paid for out of a budget: when it is
spent, the evaluation ends with an error instead of going on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from penstock_coordinator.core.plan.cel.cost import weight
from penstock_coordinator.core.plan.cel.errors import ConditionError, MemberMissing
from penstock_coordinator.core.plan.cel.frame import Frame, Run
from penstock_coordinator.core.plan.cel.functions import FUNCTIONS, kind_of, pattern
from penstock_coordinator.core.plan.cel.operators import (
    ARITHMETIC,
    COMPARISONS,
    add,
    compare,
    compute,
    contained,
    equal,
    negate,
    truth,
)
from penstock_coordinator.core.plan.cel.tree import (
    Binary,
    Choice,
    Function,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    Lookup,
    Macro,
    MapOf,
    Member,
    Negative,
    Node,
    Not,
    Root,
)
from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.plan.paths import NoSuchPath, follow

_TEXT_PER_UNIT = 1024
_PATTERN_UNITS = 10


def build(tree: Node, source: str) -> tuple[Run, int]:
    """What computes the tree's value in a frame, and how many slots for variables the frame needs."""
    builder = _Builder(source)
    return builder.node(tree), builder.slots


class _Builder:
    def __init__(self, source: str) -> None:
        self._source = source
        self.slots = 0

    def node(self, node: Node) -> Run:
        match node:
            case Literal():
                value = node.value
                return lambda _: value
            case Lookup():
                return self._lookup(node)
            case Member() | Index():
                return self._member(node)
            case Has():
                return _has(self.node(node.operand))
            case Binary():
                return self._binary(node)
            case Logic():
                return _logic(node.every, [self.node(part) for part in node.parts], self._names(node.parts))
            case Not():
                return _not(self.node(node.operand), self._text(node.operand))
            case Negative():
                return _negative(self.node(node.operand), self._text(node.operand))
            case Choice():
                return _choice(
                    self.node(node.test), self.node(node.then), self.node(node.otherwise), self._text(node.test)
                )
            case ListOf():
                return _list_of([self.node(item) for item in node.items])
            case MapOf():
                return _map_of([(self.node(key), self.node(value)) for key, value in node.entries])
            case Function():
                return self._function(node)
            case Macro():
                return self._macro(node)
        raise AssertionError(node)

    def _text(self, node: Node) -> str:
        text = self._source[node.start : node.end]
        return text if len(text) <= 80 else text[:77] + "..."

    def _names(self, nodes: list[Node]) -> list[str]:
        return [self._text(node) for node in nodes]

    def _lookup(self, lookup: Lookup) -> Run:
        start = _start(lookup)
        path = lookup.path
        if not path:
            return start
        text = self._text(lookup)

        def inside(frame: Frame) -> Json:
            value = start(frame)
            try:
                return follow(path, value)
            except NoSuchPath as error:
                hint = "; test the step's state first" if value is None and lookup.root is Root.OUTPUT else ""
                raise MemberMissing(f"{text} is not there: {error}{hint}") from None

        return inside

    def _member(self, node: Member | Index) -> Run:
        of = self.node(node.of)
        text = self._text(node)
        if isinstance(node, Member):
            name = node.name
            return lambda frame: _inside(of(frame), name, text)
        key = self.node(node.key)
        return lambda frame: _inside(of(frame), key(frame), text)

    def _binary(self, node: Binary) -> Run:
        left, right, text = self.node(node.left), self.node(node.right), self._text(node)
        match node.operator:
            case "==":
                return lambda frame: equal(frame, left(frame), right(frame))
            case "!=":
                return lambda frame: not equal(frame, left(frame), right(frame))
            case "in":
                return lambda frame: contained(frame, left(frame), right(frame), text)
            case "+":
                return lambda frame: add(frame, left(frame), right(frame), text)
        if node.operator in COMPARISONS:
            holds = COMPARISONS[node.operator]
            return lambda frame: compare(holds, left(frame), right(frame), text)
        operation = ARITHMETIC[node.operator]
        return lambda frame: compute(operation, left(frame), right(frame), text)

    def _function(self, node: Function) -> Run:
        arguments = [self.node(each) for each in node.arguments]
        if node.name == "matches":
            literal = node.arguments[1]
            assert isinstance(literal, Literal)
            return _matches(arguments[0], pattern(literal.value))
        if node.name == "contains":
            return _contains(arguments[0], arguments[1])
        call = FUNCTIONS[node.name].call
        if len(arguments) == 1:
            only = arguments[0]
            return lambda frame: call(only(frame))
        first, second = arguments
        return lambda frame: call(first(frame), second(frame))

    def _macro(self, node: Macro) -> Run:
        self.slots = max(self.slots, node.slot + 1)
        over = _items(self.node(node.over), self._text(node.over), node.name)
        test = self.node(node.test) if node.test is not None else None
        result = self.node(node.result) if node.result is not None else None
        units = 1 + sum(weight(body) for body in (node.test, node.result) if body is not None)
        text = self._text(node.test) if node.test is not None else ""
        if node.name in ("all", "exists"):
            assert test is not None
            return _any_or_all(node.name == "all", over, node.slot, test, units, text)
        if node.name == "exists_one":
            assert test is not None
            return _exists_one(over, node.slot, test, units, text)
        return _selected(over, node.slot, test, result, units, text)


# --- names


def _start(lookup: Lookup) -> Run:
    name, slot = lookup.name, lookup.slot
    match lookup.root:
        case Root.LOCAL:
            return lambda frame: frame.variables[slot]
        case Root.ITEM:
            return lambda frame: frame.item
        case Root.STATE:
            return lambda frame: frame.steps[name]["state"]
        case Root.OUTPUT:
            return lambda frame: frame.steps[name]["output"]
        case Root.PARAMETER:
            return lambda frame: _parameter(frame, name)


def _parameter(frame: Frame, name: str) -> Json:
    try:
        return frame.parameters[name]
    except KeyError:
        raise MemberMissing(f"the run has no parameter {name!r}") from None


def _inside(value: Json, key: Json, text: str) -> Json:
    if type(value) is dict and type(key) is str:
        if key in value:
            return value[key]
        raise MemberMissing(f"{text} is not there: the object has no member {key!a}")
    if type(value) is list and type(key) is int:
        if 0 <= key < len(value):
            return value[key]
        raise MemberMissing(f"{text} is not there: the list has {len(value)} items, counted from 0")
    raise MemberMissing(f"{text} is not there: {kind_of(value).value} has no member of {kind_of(key).value}")


def _has(operand: Run) -> Run:
    def has(frame: Frame) -> bool:
        try:
            operand(frame)
        except MemberMissing:
            return False
        return True

    return has


# --- logic


def _not(operand: Run, text: str) -> Run:
    return lambda frame: not truth(operand(frame), text)


def _negative(operand: Run, text: str) -> Run:
    return lambda frame: negate(operand(frame), text)


def _choice(test: Run, then: Run, otherwise: Run, text: str) -> Run:
    return lambda frame: then(frame) if truth(test(frame), text) else otherwise(frame)


def _logic(every: bool, parts: list[Run], texts: list[str]) -> Run:
    """One part that decides is enough, also when another one is in error."""
    decides = not every
    named = list(zip(parts, texts, strict=True))

    def logic(frame: Frame) -> bool:
        failure: ConditionError | None = None
        for part, text in named:
            try:
                if truth(part(frame), text) is decides:
                    return decides
            except ConditionError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return every

    return logic


# --- texts, lists and objects


def _matches(text: Run, found: Callable[[str], bool]) -> Run:
    def matches(frame: Frame) -> bool:
        value = text(frame)
        if type(value) is not str:
            raise ConditionError(f"matches() is of texts, not of {kind_of(value).value}")
        frame.spend(1 + len(value) * _PATTERN_UNITS)
        try:
            return found(value)
        except UnicodeEncodeError:
            raise ConditionError("matches() does not take texts with lone surrogates") from None

    return matches


def _contains(text: Run, part: Run) -> Run:
    call = FUNCTIONS["contains"].call

    def contains(frame: Frame) -> bool:
        value = text(frame)
        if type(value) is str:
            frame.spend(len(value) // _TEXT_PER_UNIT)
        return bool(call(value, part(frame)))

    return contains


def _list_of(items: list[Run]) -> Run:
    return lambda frame: [item(frame) for item in items]


def _map_of(entries: list[tuple[Run, Run]]) -> Run:
    def map_of(frame: Frame) -> dict[str, Json]:
        made: dict[str, Json] = {}
        for key_of, value_of in entries:
            key = key_of(frame)
            if type(key) is not str:
                raise ConditionError(f"the keys of objects are texts, not {kind_of(key).value}")
            if key in made:
                raise ConditionError(f"the object has the key {key!a} twice")
            made[key] = value_of(frame)
        return made

    return map_of


# --- macros


def _items(over: Run, text: str, name: str) -> Callable[[Frame], Iterable[Json]]:
    def items(frame: Frame) -> Iterable[Json]:
        value = over(frame)
        if type(value) is list or type(value) is dict:
            return value
        raise ConditionError(f"{text} is {kind_of(value).value}: {name}() is of lists and objects")

    return items


def _any_or_all(
    every: bool, over: Callable[[Frame], Iterable[Json]], slot: int, test: Run, units: int, text: str
) -> Run:
    """As with `&&` and `||`: one item that decides is enough, also when another one is in error."""
    decides = not every

    def decide(frame: Frame) -> bool:
        failure: ConditionError | None = None
        for item in over(frame):
            frame.spend(units)
            frame.variables[slot] = item
            try:
                if truth(test(frame), text) is decides:
                    return decides
            except ConditionError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return every

    return decide


def _exists_one(over: Callable[[Frame], Iterable[Json]], slot: int, test: Run, units: int, text: str) -> Run:
    def exists_one(frame: Frame) -> bool:
        count = 0
        for item in over(frame):
            frame.spend(units)
            frame.variables[slot] = item
            count += truth(test(frame), text)
        return count == 1

    return exists_one


def _selected(
    over: Callable[[Frame], Iterable[Json]], slot: int, test: Run | None, result: Run | None, units: int, text: str
) -> Run:
    """`filter` (no result) and `map` (perhaps with a test)."""

    def selected(frame: Frame) -> list[Json]:
        made: list[Json] = []
        for item in over(frame):
            frame.spend(units)
            frame.variables[slot] = item
            if test is None or truth(test(frame), text):
                made.append(item if result is None else result(frame))
        return made

    return selected
