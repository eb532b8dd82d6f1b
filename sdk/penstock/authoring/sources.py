"""Where the functions of a pipeline live: their modules as an agent imports them, and the bundle they need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.authoring.graph import FunctionTarget
from penstock.bundle.archive import Bundle, build_bundle
from penstock.bundle.exclusions import what_to_bring_back
from penstock.bundle.layout import Layout, layout_of
from penstock.code_digest import BundleCode
from penstock.errors import BundleError, DefinitionError

if TYPE_CHECKING:
    from penstock.authoring.pipelines import Pipeline


def needs_bundle(pipeline: Pipeline) -> bool:
    if pipeline.penstock_options.bundle is not None:
        return pipeline.penstock_options.bundle
    return any(isinstance(node.target, FunctionTarget) for node in pipeline.graph().nodes.values())


@dataclass(frozen=True, slots=True)
class BundlePlace:
    """What an archive is made of. Pipelines with the same place have the same bundle."""

    root: Path
    script_folders: tuple[Path, ...]


def bundle_place(pipeline: Pipeline) -> BundlePlace | None:
    """None if the pipeline needs no bundle."""
    if not needs_bundle(pipeline):
        return None
    layout = pipeline_layout(pipeline)
    return BundlePlace(layout.root, tuple(layout.script_folders(_files(pipeline))))


def bundle_pipeline(pipeline: Pipeline) -> Bundle | None:
    """The archive for `pipeline`; None if it needs none."""
    place = bundle_place(pipeline)
    if place is None:
        return None
    bundle = build_bundle(place.root, place.script_folders)
    check_shipped(pipeline, bundle)
    return bundle


def check_shipped(pipeline: Pipeline, bundle: Bundle) -> None:
    """The files of the pipeline's functions are in its bundle. BundleError names one that an ignore file keeps out."""
    layout = pipeline_layout(pipeline)
    for file in sorted(filter(layout.holds, _files(pipeline))):
        name = file.relative_to(layout.root).as_posix()
        if name not in bundle.names:
            pattern, ignore_file = what_to_bring_back(layout.root, file)
            raise BundleError(
                "a step is defined in this file, and an ignore file leaves it out of the bundle",
                field=name,
                remedy=f"take it out of .gitignore or .penstockignore, or bring it back: {pattern} in {ignore_file}",
            )


def pipeline_code(pipeline: Pipeline, bundle_digest: str) -> BundleCode:
    """The code of the pipeline's bundle, for the digests of its functions."""
    layout = pipeline_layout(pipeline)
    scripts = [layout.root / folder for folder in layout.script_folders(_files(pipeline))]
    return BundleCode([*scripts, *layout.import_roots()], bundle_digest)


def _files(pipeline: Pipeline) -> set[Path]:
    nodes = pipeline.graph().nodes.values()
    return {source_file(node.target.function) for node in nodes if isinstance(node.target, FunctionTarget)}


def pipeline_file(pipeline: Pipeline) -> Path | None:
    """None: it is in none, but was typed into a session."""
    return _module_file(pipeline.function)


def pipeline_layout(pipeline: Pipeline) -> Layout:
    return layout_of(source_file(pipeline.function))


def source_file(function: Callable[..., Any]) -> Path:
    """The file of the module that defines `function`."""
    file = _module_file(function)
    if file is None:
        raise DefinitionError(
            f"{function.__qualname__} is defined in no file",
            field=function.__name__,
            remedy="put it into a .py file: what is typed into a session cannot be sent to agents",
        )
    return file


def _module_file(definition: Any) -> Path | None:
    file = getattr(sys.modules.get(definition.__module__), "__file__", None)
    return None if file is None else Path(file).resolve()


def module_name(definition: Any, layout: Layout) -> str:
    """Of a function or class, as an agent imports it: by its place in the bundle, or as it is installed."""
    file = _module_file(definition)
    if file is not None and layout.holds(file):
        return layout.module_of(file)
    if definition.__module__ == "__main__":
        raise DefinitionError(
            f"{definition.__qualname__} lives outside the bundle's root {layout.root}",
            field=definition.__name__,
            remedy="move its file below the root, or import it from an installed package",
        )
    return str(definition.__module__)
