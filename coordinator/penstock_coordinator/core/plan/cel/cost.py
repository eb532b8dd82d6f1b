"""How long an expression can take at most, in units of about a tenth of a microsecond.

Texts and single values count one per operation. A list of unknown length is taken to have `UNKNOWN_SIZE` items: a
macro costs its body for each of them, so that nested macros multiply.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock_coordinator.core.plan.cel.errors import InvalidCondition
from penstock_coordinator.core.plan.cel.tree import (
    Binary,
    Choice,
    Function,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    Macro,
    MapOf,
    Member,
    Negative,
    Node,
    Not,
)

UNKNOWN_SIZE = 1_000
MAX_COST = 100_000
_MATCHES = 100
_SCANNED_PER_UNIT = 16


def check_cost(tree: Node) -> None:
    """Raises `InvalidCondition` if the expression could cost more than `MAX_COST`."""
    total = _cost(tree)
    if total > MAX_COST:
        raise InvalidCondition(
            f"the expression is too costly: it can take {total:,} steps of at most {MAX_COST:,} (lists of unknown "
            f"length count as {UNKNOWN_SIZE:,}); do not nest macros, or compute it in a step",
            tree.start,
        )


def weight(tree: Node) -> int:
    """Operations of one evaluation, without the turns of macros inside."""
    return 1 + sum(weight(part) for part in parts(tree))


def parts(node: Node) -> Iterator[Node]:
    match node:
        case Has() | Not() | Negative():
            yield node.operand
        case Member():
            yield node.of
        case Index():
            yield node.of
            yield node.key
        case Binary():
            yield node.left
            yield node.right
        case Logic():
            yield from node.parts
        case Choice():
            yield node.test
            yield node.then
            yield node.otherwise
        case ListOf():
            yield from node.items
        case MapOf():
            for key, value in node.entries:
                yield key
                yield value
        case Function():
            yield from node.arguments
        case Macro():
            yield node.over
            if node.test is not None:
                yield node.test
            if node.result is not None:
                yield node.result


def _cost(node: Node) -> int:
    if isinstance(node, Macro):
        bodies = sum(_cost(body) for body in (node.test, node.result) if body is not None)
        return 1 + _cost(node.over) + _size(node.over) * (1 + bodies)
    total = 1 + sum(_cost(part) for part in parts(node))
    if isinstance(node, Function) and node.name == "matches":
        total += _MATCHES
    if isinstance(node, Binary) and node.operator == "in":
        total += _size(node.right) // _SCANNED_PER_UNIT
    return total


def _size(node: Node) -> int:
    """How many items the value has at most."""
    match node:
        case Literal():
            return 0
        case ListOf():
            return len(node.items)
        case MapOf():
            return len(node.entries)
        case Macro() if node.name in ("map", "filter"):
            return _size(node.over)
        case Binary(operator="+"):
            return _size(node.left) + _size(node.right)
        case Choice():
            return max(_size(node.then), _size(node.otherwise))
    return UNKNOWN_SIZE
