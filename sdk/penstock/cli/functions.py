"""Checking the `function:` steps of a YAML pipeline against the code of its bundle, which is read and not run.

What reading cannot tell (names that are made at run time, decorators of others) is left to the agents.
"""

from __future__ import annotations

import ast
import importlib.util
from typing import TYPE_CHECKING

from penstock.bundle.layout import Layout
from penstock.code_digest.modules import Module, Modules
from penstock.names import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.v1 import pipeline_pb2
    from penstock.yaml_format.documents import Document
    from penstock.yaml_format.reading import Path as Place

_MAKES_NAMES = frozenset({"globals", "locals", "vars", "exec", "setattr"})


def check_functions(document: Document, folder: Path) -> None:
    """YamlError: neither the bundle nor this machine has a step's module, the module has no such function, or the
    step's inputs are not its arguments. Stages are passed over: `check_stages` imports theirs."""
    modules = Modules(Layout(folder).import_roots())
    stages = {stage.path for stage in document.stages}
    value = document.source.value
    by_name = isinstance(value, dict) and isinstance(value.get("steps"), dict)
    for number, step in enumerate(document.spec.steps):
        place: Place = ("steps", step.name if by_name else number)
        if step.HasField("function") and place not in stages:
            module = _module(document, modules, folder, step.function.module, place)
            if module is not None:
                _check(document, module, step, place)


def _module(document: Document, modules: Modules, folder: Path, name: str, place: Place) -> Module | None:
    """None: it is no part of the bundle, but installed."""
    found = modules.find(name)
    top = name.partition(".")[0]
    if found is not None or (modules.find(top) is None and _is_installed(top)):
        return found
    raise document.source.error(
        f"the bundle has no module {name!r}, and it is not installed here",
        (*place, "function"),
        f"the bundle is the folder {folder}: put {name.replace('.', '/')}.py there, or name another folder as `bundle`",
    )


def _is_installed(top: str) -> bool:
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _check(document: Document, module: Module, step: pipeline_pb2.StepSpec, place: Place) -> None:
    name, _, inner = step.function.qualname.partition(".")
    units = module.by_name.get(name, [])
    if not units and not _may_make_names(module):
        raise document.source.error(
            f"the module {module.name} has no function {step.function.qualname}",
            (*place, "function"),
            nearest(name, module.by_name),
        )
    node = units[0].node if len(units) == 1 else None
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inner and not node.decorator_list:
        _check_inputs(document, node, step, place)


def _may_make_names(module: Module) -> bool:
    if module.stars or module.global_stores or "__getattr__" in module.by_name:
        return True
    if any(unit.node is None for unit in module.units):
        return True
    return any(chain.root in _MAKES_NAMES for unit in module.units for chain in unit.mentions.chains)


def _check_inputs(
    document: Document, function: ast.FunctionDef | ast.AsyncFunctionDef, step: pipeline_pb2.StepSpec, place: Place
) -> None:
    """Inputs are passed by name."""
    given, taken = function.args, {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}
    for name in step.inputs:
        if name not in taken and given.kwarg is None:
            raise document.source.error(
                f"{function.name} has no argument {name!r}", (*place, "inputs", name), nearest(name, taken)
            )
    for name in _required(given):
        if name not in step.inputs:
            raise document.source.error(
                f"{function.name} needs the argument {name!r}", (*place, "inputs"), f"give the step an input {name!r}"
            )


def _required(arguments: ast.arguments) -> list[str]:
    positional = arguments.args[: len(arguments.args) - len(arguments.defaults)]
    named = [each for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    return [each.arg for each in (*positional, *named)]
