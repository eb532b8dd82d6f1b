"""What each name in an expression stands for: parameters, upstream steps, the item, variables of macros, functions.

Everything else is refused here, with what was perhaps meant. On the way this finds what the expression reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from penstock_coordinator.core.plan.cel.errors import InvalidCondition
from penstock_coordinator.core.plan.cel.functions import FUNCTIONS, MACROS
from penstock_coordinator.core.plan.cel.tree import (
    Binary,
    Call,
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
    Name,
    Negative,
    Node,
    Not,
    Root,
)
from penstock_coordinator.core.plan.model import Path
from penstock_coordinator.core.plan.naming import quoted, suggestion

MAX_PATH = 32
_VARIABLES = ("params", "steps", "item")


@dataclass(frozen=True, slots=True)
class Scope:
    """What the condition of one step may name."""

    parameters: Mapping[str, int]
    """Parameter types by name, numbered as in the proto."""
    upstream: Collection[str]
    """The step's direct upstream."""
    steps: Collection[str]
    """All steps of the pipeline."""
    mapped: bool
    """Whether there is an item."""
    own: str = ""
    """The name of the step itself."""
    members: Collection[str] = ()
    """Of an item that is made of several lists."""


@dataclass(slots=True)
class Reads:
    """What an expression reads."""

    states: set[str] = field(default_factory=set)
    outputs: dict[str, set[Path]] = field(default_factory=dict)
    item: set[Path] = field(default_factory=set)
    """Paths into the item."""
    parameters: set[str] = field(default_factory=set)


def resolve(tree: Node, scope: Scope | None) -> tuple[Node, Reads]:
    """The tree with every name resolved, and what it reads. Without a scope any parameter and step is taken: for an
    expression that was checked before. Raises `InvalidCondition`."""
    resolver = _Resolver(scope)
    return resolver.node(tree), resolver.reads


class _Resolver:
    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope
        self._locals: list[str] = []
        self.reads = Reads()

    def node(self, node: Node) -> Node:
        match node:
            case Literal():
                return node
            case Name() | Member() | Index():
                return self._reference(node)
            case Call():
                return self._call(node)
            case Binary(start, end, depth, operator, left, right):
                return Binary(start, end, depth, operator, self.node(left), self.node(right))
            case Logic(start, end, depth, every, parts):
                return Logic(start, end, depth, every, [self.node(part) for part in parts])
            case Not(start, end, depth, operand):
                return Not(start, end, depth, self.node(operand))
            case Negative(start, end, depth, operand):
                return Negative(start, end, depth, self.node(operand))
            case Choice(start, end, depth, test, then, otherwise):
                return Choice(start, end, depth, self.node(test), self.node(then), self.node(otherwise))
            case ListOf(start, end, depth, items):
                return ListOf(start, end, depth, [self.node(item) for item in items])
            case MapOf(start, end, depth, entries):
                return MapOf(start, end, depth, [(self.node(key), self.node(value)) for key, value in entries])
        raise AssertionError(node)

    # --- references

    def _reference(self, node: Node) -> Node:
        """A variable with all the literal members and positions that follow it, as one lookup."""
        base: Node = node
        members: list[str] = []
        while isinstance(base, Member | Index):
            key = base.name if isinstance(base, Member) else _literal_key(base.key)
            if key is None:
                break
            members.append(key)
            base = base.of
        if not isinstance(base, Name):
            return self._computed(node)
        members.reverse()
        return self._lookup(node, base, tuple(members))

    def _computed(self, node: Node) -> Node:
        """A member of what is no plain variable."""
        match node:
            case Member(start, end, depth, of, name):
                return Member(start, end, depth, self.node(of), name)
            case Index(start, end, depth, of, key):
                return Index(start, end, depth, self.node(of), self.node(key))
        raise AssertionError(node)

    def _lookup(self, node: Node, base: Name, path: Path) -> Node:
        if base.name in self._locals:
            slot = len(self._locals) - 1 - self._locals[::-1].index(base.name)
            return self._found(node, Root.LOCAL, base.name, path, slot)
        match base.name:
            case "params":
                return self._parameter(node, base, path)
            case "steps":
                return self._step(node, base, path)
            case "item":
                if self._scope is not None and not self._scope.mapped:
                    raise InvalidCondition("there is no item: the step is not mapped (it has no `map`)", base.start)
                self._check_member(base, path)
                self.reads.item.add(path)
                return self._found(node, Root.ITEM, "item", path)
        raise self._unknown(base)

    def _check_member(self, base: Name, path: Path) -> None:
        members = self._scope.members if self._scope is not None else ()
        if members and path and path[0] not in members:
            remedy = suggestion(path[0], members)
            raise InvalidCondition(f"the item has no member {quoted(path[0])}: {remedy}", base.start)

    def _unknown(self, base: Name) -> InvalidCondition:
        known = [*_VARIABLES, *self._locals]
        message = f"{quoted(base.name)} is not known: the variables are {', '.join(known)}"
        if self._scope is not None:
            if base.name in self._scope.parameters:
                message += f"; for the parameter write params.{base.name}"
            elif base.name in self._scope.upstream:
                message += f"; for the step write steps.{base.name}.state or steps.{base.name}.output"
        return InvalidCondition(message, base.start)

    def _parameter(self, node: Node, base: Name, path: Path) -> Node:
        if not path:
            raise InvalidCondition("name one of the parameters: params.<name> or params['<name>']", base.start)
        name, *rest = path
        if self._scope is not None and name not in self._scope.parameters:
            remedy = suggestion(name, self._scope.parameters)
            raise InvalidCondition(f"the pipeline has no parameter {quoted(name)}: {remedy}", base.start)
        self.reads.parameters.add(name)
        return self._found(node, Root.PARAMETER, name, tuple(rest))

    def _step(self, node: Node, base: Name, path: Path) -> Node:
        if not path:
            raise InvalidCondition("name one of the upstream steps: steps.<name> or steps['<name>']", base.start)
        name, *rest = path
        self._check_upstream(name, base.start)
        if not rest or rest[0] not in ("state", "output"):
            raise InvalidCondition(f"of the step {quoted(name)} there are .state and .output", base.start)
        if rest[0] == "output":
            self.reads.outputs.setdefault(name, set()).add(tuple(rest[1:]))
            return self._found(node, Root.OUTPUT, name, tuple(rest[1:]))
        if rest[1:]:
            raise InvalidCondition(f"the state of the step {quoted(name)} is a text: it has no members", base.start)
        self.reads.states.add(name)
        return self._found(node, Root.STATE, name, ())

    def _check_upstream(self, name: str, position: int) -> None:
        scope = self._scope
        if scope is None or name in scope.upstream:
            return
        if name == scope.own:
            raise InvalidCondition("a condition cannot look at its own step: name one that comes before it", position)
        if name in scope.steps:
            message = f"the step {quoted(name)} is no direct upstream of this one: add it to depends_on"
            raise InvalidCondition(message, position)
        raise InvalidCondition(f"there is no step {quoted(name)}: {suggestion(name, scope.steps)}", position)

    @staticmethod
    def _found(node: Node, root: Root, name: str, path: Path, slot: int = 0) -> Lookup:
        if len(path) > MAX_PATH:
            raise InvalidCondition(f"the path is longer than {MAX_PATH} members", node.start)
        return Lookup(node.start, node.end, 1, root, name, slot, path)

    # --- calls

    def _call(self, call: Call) -> Node:
        if call.function == "has" and call.target is None:
            return self._has(call)
        if call.target is not None and call.function in MACROS:
            return self._macro(call, call.target)
        function = FUNCTIONS.get(call.function)
        if call.function in MACROS:
            raise InvalidCondition(f"{call.function} is written {_macro_form(call.function)}", call.start)
        if function is None:
            known = [*FUNCTIONS, *MACROS, "has"]
            remedy = suggestion(call.function, known)
            raise InvalidCondition(f"there is no function {quoted(call.function)}: {remedy}", call.start)
        arguments = [call.target, *call.arguments] if call.target is not None else call.arguments
        if (call.target is not None and not function.as_member) or (call.target is None and not function.as_global):
            raise InvalidCondition(f"{call.function} is written {function.form}", call.start)
        if len(arguments) != len(function.takes):
            raise InvalidCondition(f"{call.function} is written {function.form}", call.start)
        return Function(call.start, call.end, call.depth, call.function, [self.node(each) for each in arguments])

    def _has(self, call: Call) -> Node:
        if len(call.arguments) != 1 or not isinstance(call.arguments[0], Member | Index):
            raise InvalidCondition("has is written has(value.member)", call.start)
        return Has(call.start, call.end, call.depth, self.node(call.arguments[0]))

    def _macro(self, call: Call, target: Node) -> Node:
        counts = MACROS[call.function]
        if len(call.arguments) not in counts:
            raise InvalidCondition(f"{call.function} is written {_macro_form(call.function)}", call.start)
        variable = call.arguments[0]
        if not isinstance(variable, Name):
            raise InvalidCondition(f"the first argument of {call.function} is the name of a variable", variable.start)
        if variable.name in _VARIABLES:
            raise InvalidCondition(f"{variable.name!r} is taken: choose another name for the variable", variable.start)
        over = self.node(target)
        slot = len(self._locals)
        self._locals.append(variable.name)
        bodies = [self.node(each) for each in call.arguments[1:]]
        self._locals.pop()
        result = bodies.pop() if call.function == "map" else None
        test = bodies[0] if bodies else None
        return Macro(call.start, call.end, call.depth, call.function, over, slot, test, result)


def _macro_form(name: str) -> str:
    return "list.map(x, result) or list.map(x, test, result)" if name == "map" else f"list.{name}(x, test)"


def _literal_key(key: Node) -> str | None:
    """The key as a member of a path, if it is written out."""
    if not isinstance(key, Literal):
        return None
    if isinstance(key.value, str):
        return key.value
    if type(key.value) is int:
        if key.value < 0:
            raise InvalidCondition("positions count from 0", key.start)
        return str(key.value)
    raise InvalidCondition("a member is named by a text, a position by a whole number", key.start)
