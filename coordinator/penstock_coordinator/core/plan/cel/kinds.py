"""What kind of value an expression gives, as far as it can be known before a run: a text that is added to a number,
a misspelt state or a result that is no boolean are refused at once. What is not known (outputs, items) passes."""

from __future__ import annotations

from collections.abc import Mapping

from penstock_coordinator.core.plan.cel.cost import parts
from penstock_coordinator.core.plan.cel.errors import InvalidCondition
from penstock_coordinator.core.plan.cel.functions import FUNCTIONS, Kind, kind_of, pattern
from penstock_coordinator.core.plan.cel.tree import (
    Binary,
    Choice,
    Function,
    Has,
    ListOf,
    Literal,
    Logic,
    Lookup,
    Macro,
    MapOf,
    Negative,
    Node,
    Not,
    Root,
)
from penstock_coordinator.core.plan.naming import quoted, suggestion

STATES = (
    "PENDING",
    "READY",
    "RUNNING",
    "WAITING",
    "COMPLETED",
    "FAILED",
    "SKIPPED",
    "UPSTREAM_FAILED",
    "CANCELLED",
    "ROLLED_BACK",
)
"""What a step's state compares with: the names of step-run states."""

_NUMBERS = frozenset({Kind.INT, Kind.FLOAT})
_PARAMETER_KINDS = (Kind.ANY, Kind.TEXT, Kind.INT, Kind.FLOAT, Kind.BOOL, Kind.LIST, Kind.MAP, Kind.ANY)
"""By the number of the parameter's type in the proto."""


_WANTED = {Kind.BOOL: "true or false: compare it", Kind.TEXT: "a text: use string(...)"}


def check_kinds(tree: Node, parameters: Mapping[str, int], wanted: Kind = Kind.BOOL) -> None:
    """Raises `InvalidCondition` if some part cannot be right, whatever the values, or if the result is not what is
    wanted."""
    kind = _Checker(parameters).kind(tree)
    if kind not in (wanted, Kind.ANY):
        raise InvalidCondition(f"the expression gives {kind.value}, not {_WANTED[wanted]}", tree.start)


class _Checker:
    def __init__(self, parameters: Mapping[str, int]) -> None:
        self._parameters = parameters

    def kind(self, node: Node) -> Kind:
        match node:
            case Literal():
                return kind_of(node.value)
            case Lookup():
                return self._lookup(node)
            case Binary():
                return self._binary(node)
            case Logic():
                for part in node.parts:
                    self._expect_bool(part, "&&" if node.every else "||")
                return Kind.BOOL
            case Not():
                self._expect_bool(node.operand, "!")
                return Kind.BOOL
            case Negative():
                return self._number(node.operand, "-")
            case Choice():
                return self._choice(node)
            case Function():
                return self._function(node)
            case Macro():
                return self._macro(node)
            case MapOf():
                return self._map_of(node)
        for part in parts(node):
            self.kind(part)
        if isinstance(node, Has):
            return Kind.BOOL
        return Kind.LIST if isinstance(node, ListOf) else Kind.ANY

    def _expect_bool(self, node: Node, operator: str) -> None:
        kind = self.kind(node)
        if kind not in (Kind.BOOL, Kind.ANY):
            raise InvalidCondition(f"{operator} is of true and false, not of {kind.value}", node.start)

    def _number(self, node: Node, operator: str) -> Kind:
        kind = self.kind(node)
        if kind is not Kind.ANY and kind not in _NUMBERS:
            raise InvalidCondition(f"{operator} is of numbers, not of {kind.value}", node.start)
        return kind

    def _lookup(self, node: Lookup) -> Kind:
        if node.root is Root.STATE:
            return Kind.TEXT
        if node.root is not Root.PARAMETER:
            return Kind.ANY
        number = self._parameters[node.name]
        kind = _PARAMETER_KINDS[number] if 0 <= number < len(_PARAMETER_KINDS) else Kind.ANY
        if not node.path or kind is Kind.ANY:
            return kind
        if kind not in (Kind.LIST, Kind.MAP):
            raise InvalidCondition(f"the parameter {quoted(node.name)} is {kind.value}: it has no members", node.start)
        if kind is Kind.LIST and not node.path[0].isdecimal():
            message = f"the parameter {quoted(node.name)} is a list: its items are numbered, from 0"
            raise InvalidCondition(message, node.start)
        return Kind.ANY

    def _choice(self, node: Choice) -> Kind:
        self._expect_bool(node.test, "?")
        then, otherwise = self.kind(node.then), self.kind(node.otherwise)
        return then if then is otherwise else Kind.ANY

    def _binary(self, node: Binary) -> Kind:
        left, right = self.kind(node.left), self.kind(node.right)
        match node.operator:
            case "==" | "!=":
                self._check_equality(node, left, right)
                return Kind.BOOL
            case "in":
                self._check_container(node, right)
                return Kind.BOOL
            case "<" | "<=" | ">" | ">=":
                self._check_order(node, left, right)
                return Kind.BOOL
        return _computed(node, left, right)

    @staticmethod
    def _check_equality(node: Binary, left: Kind, right: Kind) -> None:
        for state, text in ((node.left, node.right), (node.right, node.left)):
            if isinstance(state, Lookup) and state.root is Root.STATE and isinstance(text, Literal):
                _check_state(text)
        if Kind.ANY in (left, right) or Kind.NULL in (left, right) or left is right:
            return
        if not (left in _NUMBERS and right in _NUMBERS):
            raise InvalidCondition(f"{left.value} never equals {right.value}", node.start)

    @staticmethod
    def _check_container(node: Binary, right: Kind) -> None:
        if right not in (Kind.LIST, Kind.MAP, Kind.ANY):
            hint = ": for texts write whole.contains(part)" if right is Kind.TEXT else ""
            raise InvalidCondition(f"'in' looks into lists and objects, not into {right.value}{hint}", node.right.start)
        if isinstance(node.left, Lookup) and node.left.root is Root.STATE and isinstance(node.right, ListOf):
            for item in node.right.items:
                if isinstance(item, Literal):
                    _check_state(item)

    @staticmethod
    def _check_order(node: Binary, left: Kind, right: Kind) -> None:
        for kind in (left, right):
            if kind in (Kind.LIST, Kind.MAP, Kind.NULL):
                raise InvalidCondition(f"{kind.value} has no order for {node.operator!r}", node.start)
        if Kind.ANY in (left, right) or left is right or (left in _NUMBERS and right in _NUMBERS):
            return
        raise InvalidCondition(f"{left.value} and {right.value} have no order", node.start)

    def _map_of(self, node: MapOf) -> Kind:
        for key, value in node.entries:
            if self.kind(key) not in (Kind.TEXT, Kind.ANY):
                raise InvalidCondition("the keys of objects are texts", key.start)
            self.kind(value)
        return Kind.MAP

    def _function(self, node: Function) -> Kind:
        signature = FUNCTIONS[node.name]
        for takes, argument in zip(signature.takes, node.arguments, strict=True):
            kind = self.kind(argument)
            if kind is not Kind.ANY and kind not in takes:
                raise InvalidCondition(f"{signature.form} does not take {kind.value}", argument.start)
        if node.name == "matches":
            _check_pattern(node.arguments[1])
        return signature.gives

    def _macro(self, node: Macro) -> Kind:
        over = self.kind(node.over)
        if over not in (Kind.LIST, Kind.MAP, Kind.ANY):
            raise InvalidCondition(f"{node.name} is of lists and objects, not of {over.value}", node.over.start)
        if node.test is not None:
            self._expect_bool(node.test, node.name)
        if node.result is not None:
            self.kind(node.result)
        return Kind.LIST if node.name in ("map", "filter") else Kind.BOOL


def _check_state(text: Literal) -> None:
    if isinstance(text.value, str) and text.value not in STATES:
        message = f"{quoted(text.value)} is no state of a step: {suggestion(text.value, STATES)}"
        raise InvalidCondition(f"{message} (at rest: {', '.join(STATES[4:9])})", text.start)


def _check_pattern(node: Node) -> None:
    if not isinstance(node, Literal):
        raise InvalidCondition("the pattern of matches is written out: a text in quotes", node.start)
    try:
        pattern(node.value)
    except ValueError as error:
        raise InvalidCondition(str(error), node.start) from None


def _computed(node: Binary, left: Kind, right: Kind) -> Kind:
    addable = (Kind.TEXT, Kind.LIST) if node.operator == "+" else ()
    for kind in (left, right):
        if kind is not Kind.ANY and kind not in _NUMBERS and kind not in addable:
            raise InvalidCondition(f"{node.operator!r} is not for {kind.value}", node.start)
    if node.operator == "%" and Kind.FLOAT in (left, right):
        raise InvalidCondition("'%' is of whole numbers", node.start)
    if Kind.ANY in (left, right):
        known = right if left is Kind.ANY else left
        return known if known in (Kind.TEXT, Kind.LIST) else Kind.ANY
    if left is right:
        return left
    if left in _NUMBERS and right in _NUMBERS:
        return Kind.FLOAT
    raise InvalidCondition(f"{node.operator!r} is not for {left.value} and {right.value}", node.start)
