"""The modules of a bundle as lists of units: top-level statements with the names that they bind."""

from __future__ import annotations

import ast
import importlib.machinery
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from penstock.code_digest.mentions import (
    DEFINITIONS,
    FUNCTIONS,
    Chain,
    Mentions,
    Target,
    bound_names,
    import_targets,
    mentions_of,
)

_OWN_PACKAGE = "penstock"
_BLOCKS = (ast.If, ast.Try, ast.TryStar, ast.With)


@dataclass(eq=False)
class Unit:
    """A statement, or one alias of an import. `node` is None for a file that is no Python source: `content` counts.

    `own`: a definition that Penstock's decorators were taken off.
    """

    module: Module
    node: ast.stmt | None
    binds: frozenset[str]
    effect: bool
    target: Target | None = None
    content: bytes = b""
    own: bool = False

    @cached_property
    def mentions(self) -> Mentions:
        return Mentions() if self.node is None or self.target is not None else mentions_of(self.node)

    @cached_property
    def calls(self) -> frozenset[Chain]:
        """What runs when the statement is executed, and may keep what it defines: decorators, and calls of a value."""
        if isinstance(self.node, DEFINITIONS):
            return frozenset(chain for each in self.node.decorator_list for chain in mentions_of(each).chains)
        called = [inner.func for inner in _now(self.node) if isinstance(inner, ast.Call)] if self.node else []
        return frozenset(chain for each in called for chain in mentions_of(each).chains)

    @cached_property
    def inner_targets(self) -> list[tuple[str, Target]]:
        """Of the imports in a block."""
        if self.node is None or self.target is not None or isinstance(self.node, DEFINITIONS):
            return []
        imports = [inner for inner in _now(self.node) if isinstance(inner, ast.Import | ast.ImportFrom)]
        return [pair for each in imports for pair in import_targets(each)]

    @property
    def is_variable(self) -> bool:
        return not isinstance(self.node, DEFINITIONS) and self.target is None


@dataclass(eq=False)
class Module:
    """`package` is the name that relative imports begin from. A namespace package has no units."""

    name: str
    is_package: bool
    units: list[Unit] = field(default_factory=list)

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def by_name(self) -> dict[str, list[Unit]]:
        found: dict[str, list[Unit]] = {}
        for unit in self.units:
            for name in unit.binds:
                found.setdefault(name, []).append(unit)
        return found

    @cached_property
    def stars(self) -> list[Target]:
        return [unit.target for unit in self.units if unit.target is not None and unit.target.member == "*"]

    @cached_property
    def global_stores(self) -> set[str]:
        return {name for unit in self.units for name in unit.mentions.global_stores}

    @cached_property
    def imports_at_once(self) -> set[Target]:
        """What importing the module imports."""
        found = {unit.target for unit in self.units if unit.target is not None}
        for unit in self.units:
            for inner in _now(unit.node) if unit.node is not None and unit.target is None else ():
                if isinstance(inner, ast.Import):
                    found |= {Target(alias.name) for alias in inner.names}
                elif isinstance(inner, ast.ImportFrom):
                    found |= {target for _, target in import_targets(inner)}
        return found


class Modules:
    """Finds modules below the folders of an import path, and reads each once."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._known: dict[str, Module | None] = {}
        self.led_to: dict[Unit, frozenset[Unit]] = {}
        """What the calls of a unit lead to; filled as it is asked for."""

    def find(self, name: str) -> Module | None:
        """None: the bundle has no such module."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Module | None:
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        for folder in self._folders:
            path = folder.joinpath(*parts)
            for file, is_package in ((path / "__init__.py", True), (path.with_name(f"{path.name}.py"), False)):
                if file.is_file():
                    return _parse(name, file, is_package)
            for suffix in importlib.machinery.EXTENSION_SUFFIXES:
                file = path.with_name(path.name + suffix)
                if file.is_file():
                    return _opaque(name, file.read_bytes(), False)
        if any(folder.joinpath(*parts).is_dir() for folder in self._folders):
            return Module(name, True)
        return None


def _parse(name: str, file: Path, is_package: bool) -> Module:
    content = file.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return _opaque(name, content, is_package)
    module = Module(name, is_package)
    for statement in tree.body:
        module.units += _units(module, statement)
    for unit in module.units:
        _take_off_own_decorators(unit)
    return module


def _take_off_own_decorators(unit: Unit) -> None:
    """They say how the step is run, which the specification holds, and keep nothing that steps could reach."""
    if isinstance(unit.node, DEFINITIONS):
        kept = [each for each in unit.node.decorator_list if not _is_own(unit.module, each)]
        unit.own = len(kept) < len(unit.node.decorator_list)
        unit.node.decorator_list = kept


def _is_own(module: Module, decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return any(is_own(module, chain) for chain in mentions_of(called).chains)


def is_own(module: Module, chain: Chain) -> bool:
    """Whether a name of the module is one of Penstock's."""
    targets = [unit.target for unit in module.by_name.get(chain.root, ()) if unit.target is not None]
    return any(target.module.partition(".")[0] == _OWN_PACKAGE and not target.level for target in targets)


def _opaque(name: str, content: bytes, is_package: bool) -> Module:
    module = Module(name, is_package)
    module.units.append(Unit(module, None, frozenset(), True, content=content))
    return module


def _units(module: Module, statement: ast.stmt) -> Iterator[Unit]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        yield from _import_units(module, statement)
    elif isinstance(statement, ast.Pass) or _is_text(statement) or _is_main(statement):
        return
    else:
        unit = Unit(module, statement, frozenset(), _is_effect(statement))
        unit.binds = frozenset(bound_names(statement) | {name for name, _ in unit.inner_targets})
        yield unit


def _import_units(module: Module, statement: ast.Import | ast.ImportFrom) -> Iterator[Unit]:
    """One for each alias: what else is imported in the same line does not matter."""
    for alias, (name, target) in zip(statement.names, import_targets(statement), strict=True):
        single = (
            ast.Import([alias])
            if isinstance(statement, ast.Import)
            else ast.ImportFrom(statement.module, [alias], statement.level)
        )
        if isinstance(statement, ast.Import) and not alias.asname:
            # `import a.b` binds a, and what it imports is a.b: two facts of one alias.
            yield Unit(module, single, frozenset({name}), False, target)
            if "." in alias.name:
                yield Unit(module, single, frozenset(), False, Target(alias.name))
        else:
            yield Unit(module, single, frozenset() if name == "*" else frozenset({name}), False, target)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_main(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":` never runs where a module is imported."""
    return (
        isinstance(statement, ast.If)
        and not statement.orelse
        and isinstance(statement.test, ast.Compare)
        and isinstance(statement.test.left, ast.Name)
        and statement.test.left.id == "__name__"
        and isinstance(statement.test.ops[0], ast.Eq)
    )


def _is_effect(statement: ast.stmt) -> bool:
    """Whether the statement does more than to bind names."""
    if isinstance(statement, _BLOCKS):
        return any(_is_effect(each) for each in _statements(statement))
    if isinstance(statement, (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Pass)) or _is_text(statement):
        return False
    targets: list[ast.expr] = []
    match statement:
        case ast.Assign():
            targets = statement.targets
        case ast.AnnAssign() | ast.AugAssign():
            targets = [statement.target]
        case _:
            return type(statement).__name__ != "TypeAlias"
    return not all(_is_plain(target) for target in targets)


def _is_plain(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(_is_plain(each) for each in target.elts)
    return isinstance(target, ast.Name) or (isinstance(target, ast.Starred) and _is_plain(target.value))


def _statements(block: ast.stmt) -> Iterator[ast.stmt]:
    """Those directly in the block and its other branches."""
    for child in ast.iter_child_nodes(block):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.ExceptHandler):
            yield from child.body


def _now(node: ast.AST | None) -> Iterator[ast.AST]:
    """The nodes that are executed with the statement: not the bodies of functions, nor what only types check."""
    pending = [node] if node is not None else []
    while pending:
        inner = pending.pop()
        yield inner
        if isinstance(inner, ast.If) and ast.unparse(inner.test).endswith("TYPE_CHECKING"):
            pending += inner.orelse
        elif isinstance(inner, FUNCTIONS):
            pending += [*getattr(inner, "decorator_list", []), *inner.args.defaults]
            pending += [default for default in inner.args.kw_defaults if default is not None]
        else:
            pending += ast.iter_child_nodes(inner)
