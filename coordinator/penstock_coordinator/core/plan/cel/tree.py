"""What an expression is made of. `start` and `end` are its place in the source, `depth` the height of its tree.

`Name`, `Member`, `Index` and `Call` are what is written; resolving the names turns them into `Lookup`, `Has`,
`Function` and `Macro`, and leaves `Member` and `Index` only for what has no name (`[1, 2][0]`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from penstock_coordinator.core.plan.model import Json, Path


@dataclass(slots=True, eq=False)
class Node:
    start: int
    end: int
    depth: int


@dataclass(slots=True, eq=False)
class Literal(Node):
    value: Json


@dataclass(slots=True, eq=False)
class Name(Node):
    name: str


@dataclass(slots=True, eq=False)
class Member(Node):
    of: Node
    name: str


@dataclass(slots=True, eq=False)
class Index(Node):
    of: Node
    key: Node


@dataclass(slots=True, eq=False)
class Call(Node):
    """`target.function(arguments)`, or without a target `function(arguments)`."""

    function: str
    target: Node | None
    arguments: list[Node]


@dataclass(slots=True, eq=False)
class ListOf(Node):
    items: list[Node]


@dataclass(slots=True, eq=False)
class MapOf(Node):
    entries: list[tuple[Node, Node]]


@dataclass(slots=True, eq=False)
class Not(Node):
    operand: Node


@dataclass(slots=True, eq=False)
class Negative(Node):
    operand: Node


@dataclass(slots=True, eq=False)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(slots=True, eq=False)
class Logic(Node):
    """`&&` (every) or `||` over two or more."""

    every: bool
    parts: list[Node]


@dataclass(slots=True, eq=False)
class Choice(Node):
    test: Node
    then: Node
    otherwise: Node


class Root(enum.Enum):
    PARAMETER = "params"
    STATE = "state"
    OUTPUT = "output"
    ITEM = "item"
    LOCAL = "local"


@dataclass(slots=True, eq=False)
class Lookup(Node):
    """`path` inside of the parameter, output or macro variable `name`."""

    root: Root
    name: str
    slot: int
    """Of a macro's variable: how many macros are around its own."""
    path: Path


@dataclass(slots=True, eq=False)
class Has(Node):
    operand: Node


@dataclass(slots=True, eq=False)
class Function(Node):
    name: str
    arguments: list[Node]


@dataclass(slots=True, eq=False)
class Macro(Node):
    """`over.name(variable, test, result)`: `map` has a result and perhaps a test, the others have a test."""

    name: str
    over: Node
    slot: int
    test: Node | None
    result: Node | None
