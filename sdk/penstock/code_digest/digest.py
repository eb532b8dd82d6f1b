"""The digest over what a function reaches."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.code_digest.modules import Module, Modules, Unit
from penstock.code_digest.reach import Dynamic, Reach

if TYPE_CHECKING:
    from penstock.v1 import pipeline_pb2

# Other rules are another digest: what they cover is not comparable.
_RULES = b"penstock code 1\n"


class BundleCode:
    """The code of one bundle. Files are read when they are needed, and once."""

    def __init__(self, import_roots: Sequence[Path], bundle_digest: str) -> None:
        self._modules = Modules(import_roots)
        self._bundle_digest = bundle_digest
        self._known: dict[tuple[str, str], str] = {}

    def digest(self, module: str, qualname: str) -> str:
        """Hex SHA-256 of the function and what it reaches; "" if the bundle does not hold its module."""
        key = (module, qualname.partition(".")[0])
        if key not in self._known:
            self._known[key] = self._digest(*key)
        return self._known[key]

    def _digest(self, name: str, definition: str) -> str:
        module = self._modules.find(name)
        if module is None or not module.units:
            return ""
        reach = Reach(self._modules)
        try:
            reach.function(module, definition)
        except (Dynamic, RecursionError):
            return hashlib.sha256(_RULES + b"bundle " + self._bundle_digest.encode()).hexdigest()
        return _hash(name, definition, reach.units)


def set_code_digests(spec: pipeline_pb2.PipelineSpec, code: BundleCode) -> None:
    """Of every step that is a function."""
    for step in spec.steps:
        if step.HasField("function"):
            step.function.code_digest = code.digest(step.function.module, step.function.qualname)


def _hash(name: str, definition: str, units: set[Unit]) -> str:
    digest = hashlib.sha256(_RULES + f"{name}:{definition}\n".encode())
    by_module: dict[Module, set[Unit]] = {}
    for unit in units:
        by_module.setdefault(unit.module, set()).add(unit)
    for module in sorted(by_module, key=lambda module: module.name):
        digest.update(f"module {module.name}\n".encode())
        for text in _texts(module, by_module[module]):
            digest.update(f"{len(text)}\n".encode() + text)
    return digest.hexdigest()


def _texts(module: Module, units: set[Unit]) -> Iterator[bytes]:
    """Definitions that stand alone by their names, for their order says nothing; all else in its order."""
    ordered = [unit for unit in module.units if unit in units]
    alone = [unit for unit in ordered if _stands_alone(unit)]
    yield from sorted(_text(unit) for unit in alone)
    yield from (_text(unit) for unit in ordered if unit not in set(alone))


def _stands_alone(unit: Unit) -> bool:
    if unit.target is not None:
        return all(len(unit.module.by_name[name]) == 1 for name in unit.binds)
    return (
        isinstance(unit.node, ast.FunctionDef | ast.AsyncFunctionDef) and len(unit.module.by_name[unit.node.name]) == 1
    )


def _text(unit: Unit) -> bytes:
    return unit.content if unit.node is None else _canonical(unit.node).encode("utf-8", "surrogatepass")


def _canonical(value: object) -> str:
    """The tree without places, and without members that are empty: those differ between releases of Python."""
    if isinstance(value, ast.AST):
        members = ((name, getattr(value, name, None)) for name in value._fields if name not in ("ctx", "kind"))
        shown = (f"{name}={_canonical(each)}" for name, each in members if each is not None and each != [])
        return f"{type(value).__name__}({', '.join(shown)})"
    if isinstance(value, list):
        return f"[{', '.join(_canonical(each) for each in value)}]"
    return f"{type(value).__name__} {value!r}"
