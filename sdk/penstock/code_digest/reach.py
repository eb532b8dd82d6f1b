"""Which units a function reaches."""

from __future__ import annotations

import ast
import builtins

from penstock.code_digest.mentions import Chain, Target, mentions_of
from penstock.code_digest.modules import Module, Modules, Unit, is_own

# What finds code, or files of the bundle, by other means than names.
_DYNAMIC_BUILTINS = frozenset({"eval", "exec", "compile", "__import__", "globals"})
_DYNAMIC_NAMES = frozenset({"__file__", "__loader__", "__spec__", "__path__"})
_DYNAMIC_MODULES = frozenset({"importlib", "runpy", "pkgutil", "imp", "zipimport", "linecache", "pydoc"})
_HARMLESS = frozenset({"importlib.metadata"})
_DYNAMIC_MEMBERS = frozenset(
    {
        "sys.modules",
        "sys.path",
        "sys.path_hooks",
        "sys.meta_path",
        "sys.executable",
        "sys._getframe",
        "inspect.getsource",
        "inspect.getsourcelines",
        "inspect.getsourcefile",
        "inspect.getfile",
        "inspect.getmodule",
        "inspect.stack",
        "inspect.currentframe",
    }
)
# Calls whose values keep nothing that a function could find there later.
_MAKES_FIXED = frozenset(
    {
        "logging.getLogger",
        "structlog.get_logger",
        "re.compile",
        "pathlib.Path",
        "typing.TypeVar",
        "decimal.Decimal",
        "datetime.timedelta",
        "datetime.date",
        "datetime.datetime",
        "collections.namedtuple",
        "threading.Lock",
    }
)
_DYNAMIC_ATTRIBUTES = frozenset({"__subclasses__", "__globals__", "__code__"})


class Dynamic(Exception):
    """The code may reach anything in the bundle."""


class Reach:
    """Everything that is reached from the units and names that were given to it."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._pending: list[Unit] = []
        self._seen: set[tuple[str, tuple[str, ...]]] = set()
        self.units: set[Unit] = set()
        self.executed: set[Module] = set()

    def function(self, module: Module, name: str) -> None:
        """Raises Dynamic."""
        self._execute(module)
        self._parents(module.name)
        if name in module.by_name:
            self._name(module, name, ())
        else:
            self._whole(module)
        self._draw()
        while self._registered():
            self._draw()

    def _draw(self) -> None:
        while self._pending:
            unit = self._pending.pop()
            self._execute(unit.module)
            for target in unit.mentions.imports:
                self._execute_target(unit.module, target)
            self._check(unit)
            for chain in unit.mentions.chains:
                self._chain(unit.module, chain)

    def _check(self, unit: Unit) -> None:
        """Classes that know their subclasses find code without a name."""
        if not _DYNAMIC_ATTRIBUTES.isdisjoint(unit.mentions.attributes):
            raise Dynamic(", ".join(_DYNAMIC_ATTRIBUTES & unit.mentions.attributes))
        for node in ast.walk(unit.node) if isinstance(unit.node, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef) and node.name == "__init_subclass__":
                raise Dynamic(node.name)
            if isinstance(node, ast.ClassDef) and any(self._is_ours(unit.module, each) for each in node.keywords):
                raise Dynamic("metaclass")

    def _is_ours(self, module: Module, keyword: ast.keyword) -> bool:
        """Whether a metaclass is defined in the bundle."""
        found = Reach(self._modules)
        for chain in mentions_of(keyword.value).chains if keyword.arg == "metaclass" else ():
            found._chain(module, chain)
        return any(unit.target is None for unit in found.units)

    def _add(self, unit: Unit) -> None:
        if unit not in self.units:
            self.units.add(unit)
            self._pending.append(unit)

    # What importing a module runs

    def _execute(self, module: Module) -> None:
        if module in self.executed:
            return
        self.executed.add(module)
        for unit in module.units:
            if unit.effect:
                self._add(unit)
        for target in module.imports_at_once:
            self._execute_target(module, target)

    def _execute_target(self, module: Module, target: Target) -> None:
        name = _absolute(module, target)
        self._parents(name)
        for each in (name, f"{name}.{target.member}" if target.member else ""):
            found = self._modules.find(each) if each else None
            if found is not None:
                self._execute(found)

    def _parents(self, name: str) -> None:
        parts = name.split(".")
        for end in range(1, len(parts)):
            parent = self._modules.find(".".join(parts[:end]))
            if parent is not None:
                self._execute(parent)

    # What a name means

    def _chain(self, module: Module, chain: Chain) -> None:
        if chain.target is not None:
            self._target(module, chain.target, chain.attributes)
        elif chain.root in module.by_name:
            self._name(module, chain.root, chain.attributes)
        else:
            self._unbound(module, chain)

    def _name(self, module: Module, name: str, attributes: tuple[str, ...]) -> None:
        for unit in module.by_name[name]:
            self._add(unit)
            if unit.target is not None:
                self._target(module, unit.target, attributes)
            for bound, target in unit.inner_targets:
                if bound == name:
                    self._target(module, target, attributes)

    def _unbound(self, module: Module, chain: Chain) -> None:
        if chain.root in _DYNAMIC_NAMES or chain.root in _DYNAMIC_BUILTINS:
            raise Dynamic(chain.root)
        if chain.root == "__doc__":
            self._whole(module)
        if hasattr(builtins, chain.root):
            return
        for star in module.stars:
            found = self._modules.find(_absolute(module, star))
            if found is not None:
                self._through_star(found, chain)

    def _through_star(self, module: Module, chain: Chain) -> None:
        if not self._first_time(f"*{module.name}", (chain.root, *chain.attributes)):
            return
        if chain.root in module.by_name:
            self._name(module, chain.root, chain.attributes)
            return
        for star in module.stars:
            found = self._modules.find(_absolute(module, star))
            if found is not None and found is not module:
                self._through_star(found, chain)

    def _target(self, module: Module, target: Target, attributes: tuple[str, ...]) -> None:
        members = (target.member, *attributes) if target.member else attributes
        self._member(_absolute(module, target), members)

    def _first_time(self, name: str, members: tuple[str, ...]) -> bool:
        """Modules may import each other in circles."""
        seen = (name, members) in self._seen
        self._seen.add((name, members))
        return not seen

    def _member(self, name: str, members: tuple[str, ...]) -> None:
        if not self._first_time(name, members):
            return
        module = self._modules.find(name)
        if module is None:
            _check_external(".".join((name, *members)))
        elif not members:
            self._whole(module)
        elif members[0] in module.by_name:
            self._name(module, members[0], members[1:])
            if self._modules.find(f"{name}.{members[0]}") is not None:
                self._member(f"{name}.{members[0]}", members[1:])
        elif self._modules.find(f"{name}.{members[0]}") is not None:
            self._member(f"{name}.{members[0]}", members[1:])
        else:
            self._whole(module)
            if not module.units:  # only a folder of that name: an installed package goes before it
                _check_external(".".join((name, *members)))

    def _whole(self, module: Module) -> None:
        """The module is used as a value, or has what is asked for in a way that cannot be seen."""
        for unit in module.units:
            self._add(unit)
            if unit.target is not None and unit.target.member == "*":
                self._member(_absolute(module, unit.target), ())
            elif unit.target is not None:
                self._target(module, unit.target, ())

    # What registers itself

    def _registered(self) -> bool:
        """Adds units of the executed modules that, as they are executed, call what leads to a reached variable."""
        variables = {unit for unit in self.units if unit.is_variable and not _is_fixed(unit)}
        found = [
            unit
            for module in self.executed
            for unit in module.units
            if unit not in self.units and unit.calls and self._leads_to(unit, variables)
        ]
        for unit in found:
            self._add(unit)
        return bool(found)

    def _leads_to(self, unit: Unit, variables: set[Unit]) -> bool:
        led = self._modules.led_to.get(unit)
        if led is None:
            led = self._modules.led_to[unit] = _Calls(self._modules).variables(unit)
        return unit in led or not variables.isdisjoint(led)


class _Calls(Reach):
    """What a call at import may change: without what imports run, and not into definitions that only Penstock calls."""

    def variables(self, unit: Unit) -> frozenset[Unit]:
        """Holds the unit itself if the calls may lead anywhere."""
        try:
            for chain in unit.calls:
                if not is_own(unit.module, chain):
                    self._chain(unit.module, chain)
            self._draw()
        except Dynamic:
            return frozenset({unit})
        return frozenset(each for each in self.units if each.is_variable)

    def _draw(self) -> None:
        while self._pending:
            unit = self._pending.pop()
            for chain in unit.mentions.chains if not unit.own else ():
                self._chain(unit.module, chain)


def _is_fixed(unit: Unit) -> bool:
    """Whether nothing can be kept in the variable: it is bound once, to a value that does not change."""
    if not isinstance(unit.node, ast.Assign | ast.AnnAssign) or unit.node.value is None:
        return False
    once = all(len(unit.module.by_name[name]) == 1 for name in unit.binds)
    fixed = _is_literal(unit.node.value) or _is_made_by(unit.module, unit.node.value)
    return once and unit.module.global_stores.isdisjoint(unit.binds) and fixed


def _is_made_by(module: Module, node: ast.expr) -> bool:
    """Whether the value is what one of `_MAKES_FIXED` returns."""
    called = mentions_of(node.func).chains if isinstance(node, ast.Call) else set()
    return any(_external_name(module, chain) in _MAKES_FIXED for chain in called)


def _external_name(module: Module, chain: Chain) -> str:
    targets = [unit.target for unit in module.by_name.get(chain.root, ()) if unit.target is not None]
    if len(targets) != 1 or targets[0].level:
        return ""
    return ".".join(part for part in (targets[0].module, targets[0].member, *chain.attributes) if part)


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return all(_is_literal(each) for each in node.elts)
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def _check_external(name: str) -> None:
    """Raises Dynamic if what is used of an installed module finds code by other means than names."""
    head = name.partition(".")[0]
    harmless = any(name == each or name.startswith(f"{each}.") for each in _HARMLESS)
    if head in _DYNAMIC_MODULES and not harmless:
        raise Dynamic(name)
    if any(name == each or name.startswith(f"{each}.") for each in _DYNAMIC_MEMBERS):
        raise Dynamic(name)


def _absolute(module: Module, target: Target) -> str:
    if not target.level:
        return target.module
    parts = module.package.split(".")
    parts = parts[: len(parts) - target.level + 1]
    return ".".join([*parts, target.module] if target.module else parts)
