"""Checking the stages of a YAML pipeline against the functions of their kinds, where these can be imported."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from penstock.authoring.kinds import CONFIG, StepKind
from penstock.authoring.steps import Step
from penstock.bundle.layout import Layout
from penstock.errors import DefinitionError, YamlError

if TYPE_CHECKING:
    from penstock.yaml_format.documents import Document
    from penstock.yaml_format.stages import Stage


def check_stages(document: Document, folder: Path) -> None:
    """YamlError: a kind's function is not there, or a stage's config or inputs do not fit it.

    A module that does not import here is told of and left to the agents, which may have what it needs.
    """
    if not document.stages:
        return
    folders = [str(each) for each in Layout(folder).import_roots()]
    sys.path[:0] = [each for each in folders if each not in sys.path]
    importlib.invalidate_caches()
    modules: dict[str, ModuleType | None] = {}
    for stage in document.stages:
        if stage.module not in modules:
            modules[stage.module] = _import(stage.module)
        module = modules[stage.module]
        if module is not None:
            _check(document, stage, module)


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        click.echo(f"{name} does not import here, so its stages are not checked: {error!r}", err=True)
        return None


def _check(document: Document, stage: Stage, module: ModuleType) -> None:
    found: Any = module
    for part in stage.qualname.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise document.source.error(
            f"the module {stage.module} has no function {stage.qualname}",
            ("kinds", stage.kind),
            "name a function that the module has",
        )
    _check_arguments(document, stage, found)
    if isinstance(found, StepKind) and found.takes_config and (CONFIG in stage.inputs or stage.config):
        _check_config(document, stage, found)


def _check_arguments(document: Document, stage: Stage, function: Any) -> None:
    signature = inspect.signature(function.penstock_function if isinstance(function, Step) else function)
    try:
        signature.bind(**dict.fromkeys(stage.inputs))
    except TypeError as error:
        raise document.source.error(
            f"the arguments do not fit: {error}",
            stage.path,
            f"the inputs, `from` and `config` are the arguments of {stage.qualname}{signature}",
        ) from None


def _check_config(document: Document, stage: Stage, kind: StepKind[..., Any]) -> None:
    field = f"{'.'.join(str(part) for part in stage.path)}.{CONFIG}"
    try:
        kind.read_config(stage.config, field)
    except DefinitionError as error:
        members = tuple(part for part in error.field.removeprefix(field).split(".") if part)
        placed: YamlError = document.source.error(error.message, (*stage.path, CONFIG, *members), error.remedy)
        placed.field = error.field
        raise placed from None
