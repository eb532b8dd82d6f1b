"""What a statement mentions: names of its module, names that it imports itself, and what makes it dynamic."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Target:
    """What an import names: a module (relative to a package by `level` dots), and a member of it ("": the module)."""

    module: str
    level: int = 0
    member: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """`root.a.b`: a name with the attributes taken of it. `target`: the name is bound by an import in the statement."""

    root: str
    attributes: tuple[str, ...] = ()
    target: Target | None = None


@dataclass(slots=True)
class Mentions:
    """Of one statement. `imports` are those inside of it, also in functions; `global_stores` are names of `global`."""

    chains: set[Chain] = field(default_factory=set)
    imports: set[Target] = field(default_factory=set)
    global_stores: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)


def import_targets(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Target]]:
    """(name bound, what it names) of each alias. `import a.b` binds `a`."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, Target(node.module or "", node.level, alias.name)
        elif alias.asname:
            yield alias.asname, Target(alias.name)
        else:
            yield alias.name.partition(".")[0], Target(alias.name.partition(".")[0])


def mentions_of(node: ast.AST) -> Mentions:
    """Of a top-level statement, or of an expression in one."""
    visitor = _Visitor()
    visitor.visit(node)
    return visitor.found


Scope: TypeAlias = "dict[str, Target | None]"


class _Visitor(ast.NodeVisitor):
    """Walks with the local names of the functions around; what is no local name is the module's."""

    def __init__(self) -> None:
        self.found = Mentions()
        self._scopes: list[Scope] = []

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Store):
            self._mention(node.id, ())

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            self.found.attributes.add(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._mention(inner.id, tuple(reversed(attributes)))
        else:
            self.visit(inner)

    def _mention(self, name: str, attributes: tuple[str, ...]) -> None:
        for scope in reversed(self._scopes):
            if name in scope:
                target = scope[name]
                if target is not None:
                    self.found.chains.add(Chain(name, attributes, target))
                return
        self.found.chains.add(Chain(name, attributes))

    def visit_Global(self, node: ast.Global) -> None:
        self.found.global_stores.update(node.names)
        self.found.chains.update(Chain(name) for name in node.names)

    # Imports

    def visit_Import(self, node: ast.Import) -> None:
        self._import(node)
        self.found.imports |= {Target(alias.name) for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.found.imports |= {target for _, target in import_targets(node)}

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        self._arguments(node.args)
        if node.returns is not None:
            self._annotation(node.returns)
        self._visit_all(getattr(node, "type_params", []))
        self._within(_locals(node), node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._arguments(node.args)
        self._within(_locals(node), [node.body])

    def _arguments(self, arguments: ast.arguments) -> None:
        self._visit_all(arguments.defaults)
        self._visit_all(default for default in arguments.kw_defaults if default is not None)
        for argument in _all_arguments(arguments):
            if argument.annotation is not None:
                self._annotation(argument.annotation)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self._annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def _annotation(self, node: ast.expr) -> None:
        self.visit(node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                try:
                    self.visit(ast.parse(inner.value, mode="eval").body)
                except (SyntaxError, ValueError):
                    continue

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        scope: Scope = {}
        for generator in node.generators:
            scope.update(dict.fromkeys(_stored([generator.target])))
        self.visit(node.generators[0].iter)  # it is evaluated outside
        self._within(scope, ast.iter_child_nodes(node))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _within(self, scope: Scope, nodes: Iterable[ast.AST]) -> None:
        self._scopes.append(scope)
        self._visit_all(nodes)
        self._scopes.pop()

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    rest = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def _locals(node: Function) -> Scope:
    """The names that a function binds, with the target of those that only an import binds."""
    scope: Scope = {argument.arg: None for argument in _all_arguments(node.args)}
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    imported: Scope = {}
    declared: set[str] = set()
    for inner in _own_nodes(body):
        match inner:
            case ast.Import() | ast.ImportFrom():
                imported.update(dict(import_targets(inner)))
            case ast.Global() | ast.Nonlocal():
                declared.update(inner.names)
            case _:
                scope.update(dict.fromkeys(_bound_by(inner)))
    merged = {**imported, **scope}
    return {name: target for name, target in merged.items() if name not in declared}


def _stored(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in _own_nodes(nodes):
        yield from _bound_by(node)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """The names that this very node binds."""
    match node:
        case ast.Name(ctx=ast.Store() | ast.Del()):
            yield node.id
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name


def _own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a scope, without those of scopes inside of it (but the names of definitions)."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, _COMPREHENSIONS):
            pending += [inner for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
        elif not isinstance(node, (*DEFINITIONS, ast.Lambda)):
            pending += ast.iter_child_nodes(node)


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement binds in its module, but by imports."""
    return set(_stored([statement]))
