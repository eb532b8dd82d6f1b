"""From tokens to a tree: precedence climbing over CEL's operators, with a bound on the height of the tree."""

from __future__ import annotations

import functools
import math

from penstock_coordinator.core.plan.cel.errors import InvalidCondition
from penstock_coordinator.core.plan.cel.tokens import Token, tokenize, unquote
from penstock_coordinator.core.plan.cel.tree import (
    Binary,
    Call,
    Choice,
    Index,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Member,
    Name,
    Negative,
    Node,
    Not,
)

MAX_DEPTH = 48
"""Far from Python's own limit: reading, checking and evaluating recurse a few frames per level."""
MAX_WHOLE = 2**63 - 1

_LEVELS = {"||": 1, "&&": 2, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5} | dict.fromkeys(
    ("<", "<=", ">", ">=", "==", "!=", "in"), 3
)
_CONSTANTS = {"true": True, "false": False, "null": None}
_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import"),
        *("let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)


@functools.lru_cache(maxsize=64)
def parse(source: str) -> Node:
    """The tree of the expression. It is shared: nobody changes it. Raises `InvalidCondition`."""
    return _Parser(source).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        self._tokens = tokenize(source)
        self._next = 0
        self._nesting = 0
        self._end = 0

    def whole(self) -> Node:
        if self._tokens[0].kind == "end":
            raise InvalidCondition("the expression is empty", 0)
        node = self._expression()
        if self._peek().kind != "end":
            raise self._unexpected("an operator or the end")
        return node

    # --- tokens

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        self._end = token.start + len(token.text)
        return token

    def _accept(self, operator: str) -> bool:
        token = self._tokens[self._next]
        if token.text == operator and token.kind == "operator":
            self._take()
            return True
        return False

    def _expect(self, operator: str) -> None:
        if not self._accept(operator):
            raise self._unexpected(f"{operator!r}")

    def _unexpected(self, wanted: str) -> InvalidCondition:
        token = self._peek()
        found = "the end" if token.kind == "end" else ascii(token.text[:40])
        return InvalidCondition(f"found {found} where {wanted} is expected", token.start)

    def _height(self, start: int, *parts: Node) -> int:
        depth = 1 + max(part.depth for part in parts)
        if depth > MAX_DEPTH:
            raise self._too_deep(start)
        return depth

    @staticmethod
    def _too_deep(position: int) -> InvalidCondition:
        return InvalidCondition(f"the expression is nested deeper than {MAX_DEPTH}: make it flatter", position)

    # --- expressions

    def _expression(self) -> Node:
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            raise self._too_deep(self._peek().start)
        node = self._operators(1)
        if self._accept("?"):
            then = self._operators(1)
            self._expect(":")
            otherwise = self._expression()
            depth = self._height(node.start, node, then, otherwise)
            node = Choice(node.start, self._end, depth, node, then, otherwise)
        self._nesting -= 1
        return node

    def _operators(self, lowest: int) -> Node:
        left = self._unary()
        while True:
            token = self._peek()
            level = _LEVELS.get(token.text, 0) if token.kind in ("operator", "name") else 0
            if level < lowest:
                return left
            self._take()
            left = self._join(token.text, left, self._operators(level + 1))

    def _join(self, operator: str, left: Node, right: Node) -> Node:
        if operator in ("&&", "||"):
            every = operator == "&&"
            if isinstance(left, Logic) and left.every is every:
                left.parts.append(right)
                left.end = self._end
                left.depth = max(left.depth, self._height(left.start, right))
                return left
            return Logic(left.start, self._end, self._height(left.start, left, right), every, [left, right])
        return Binary(left.start, self._end, self._height(left.start, left, right), operator, left, right)

    def _unary(self) -> Node:
        token = self._peek()
        if token.kind != "operator" or token.text not in ("!", "-"):
            return self._members(self._primary())
        self._take()
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            raise self._too_deep(token.start)
        operand = self._unary()
        self._nesting -= 1
        if token.text == "!":
            return Not(token.start, self._end, self._height(token.start, operand), operand)
        if isinstance(operand, Literal) and type(operand.value) in (int, float):
            return Literal(token.start, self._end, 1, -operand.value)
        return Negative(token.start, self._end, self._height(token.start, operand), operand)

    def _members(self, node: Node) -> Node:
        while True:
            if self._accept("."):
                node = self._member(node)
            elif self._accept("["):
                key = self._expression()
                self._expect("]")
                node = Index(node.start, self._end, self._height(node.start, node, key), node, key)
            elif self._peek().text == "{" and isinstance(node, Name | Member):
                raise InvalidCondition("objects of a named type do not exist here", self._peek().start)
            else:
                return node

    def _member(self, node: Node) -> Node:
        token = self._peek()
        if token.kind not in ("name", "quoted"):
            raise self._unexpected("the name of a member")
        self._take()
        if token.kind == "name" and self._accept("("):
            arguments = self._list(")")
            depth = self._height(node.start, node, *arguments)
            return Call(node.start, self._end, depth, token.text, node, arguments)
        name = token.text.strip("`")
        return Member(node.start, self._end, self._height(node.start, node), node, name)

    def _primary(self) -> Node:
        token = self._peek()
        match token.kind:
            case "name":
                return self._name()
            case "text" | "raw":
                self._take()
                return Literal(token.start, self._end, 1, unquote(token))
            case "whole" | "fraction":
                return self._number()
        if self._accept("("):
            inner = self._expression()
            self._expect(")")
            return inner
        if self._accept("["):
            items = self._list("]")
            return ListOf(token.start, self._end, self._height(token.start, *items) if items else 1, items)
        if self._accept("{"):
            return self._map(token.start)
        raise self._unexpected("a value")

    def _name(self) -> Node:
        token = self._take()
        if token.text in _CONSTANTS:
            return Literal(token.start, self._end, 1, _CONSTANTS[token.text])
        if token.text in _RESERVED or token.text == "in":
            raise InvalidCondition(f"{token.text!r} is a reserved word", token.start)
        if self._accept("("):
            arguments = self._list(")")
            depth = self._height(token.start, *arguments) if arguments else 1
            return Call(token.start, self._end, depth, token.text, None, arguments)
        return Name(token.start, self._end, 1, token.text)

    def _number(self) -> Node:
        token = self._take()
        following = self._peek()
        if following.start == self._end and following.kind in ("name", "whole", "fraction"):
            raise InvalidCondition(f"{token.text + following.text!a} is no number", token.start)
        if token.kind == "fraction":
            value: int | float = float(token.text)
            if not math.isfinite(value):
                raise InvalidCondition("the number is too large", token.start)
        else:
            value = int(token.text, 16 if token.text[:2] in ("0x", "0X") else 10)
            if value > MAX_WHOLE:
                raise InvalidCondition("the number is too large: whole numbers have 64 bits", token.start)
        return Literal(token.start, self._end, 1, value)

    def _list(self, close: str) -> list[Node]:
        """Expressions up to the closing bracket; a comma may stand before it."""
        items: list[Node] = []
        while not self._accept(close):
            items.append(self._expression())
            if not self._accept(","):
                self._expect(close)
                break
        return items

    def _map(self, start: int) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._accept("}"):
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression()))
            if not self._accept(","):
                self._expect("}")
                break
        parts = [part for entry in entries for part in entry]
        return MapOf(start, self._end, self._height(start, *parts) if parts else 1, entries)
