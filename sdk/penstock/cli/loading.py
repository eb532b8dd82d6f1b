"""From a file to a pipeline: a Python module or a YAML document, with the bundle it needs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import penstock
from penstock.authoring.pipelines import Pipeline
from penstock.authoring.preparing import PreparedPipeline, called_first, prepare
from penstock.authoring.templates import Template
from penstock.bundle.archive import Bundle, build_bundle
from penstock.bundle.layout import Layout, layout_of
from penstock.cli.functions import check_functions
from penstock.cli.stages import check_stages
from penstock.code_digest import BundleCode, set_code_digests
from penstock.environments.writing import read_named_locks
from penstock.errors import LoadError, ParameterError, PenstockError, ServiceError, YamlError
from penstock.names import nearest

if TYPE_CHECKING:
    from penstock.v1 import pipeline_pb2

_PACKAGE = Path(penstock.__file__).parent
_MAIN_REMEDY = 'a file must import without starting anything: keep that under `if __name__ == "__main__":`'
_OF_THE_DEFINITION = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
YAML_SUFFIXES = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A specification that names the digest of its bundle, and that bundle (None: it needs none)."""

    spec: pipeline_pb2.PipelineSpec
    bundle: Bundle | None
    called: tuple[PreparedPipeline, ...] = ()
    """The pipelines of its Python code that it calls, in the order in which they are to be created, before it."""

    def prepared(self) -> list[PreparedPipeline]:
        return [*self.called, PreparedPipeline(self.spec, self.bundle)]


def load_all(
    target: str, name: str | None = None, arguments: Mapping[str, str] | None = None
) -> list[PreparedPipeline]:
    """As `load_pipeline`, but a Python file of which no pipeline is chosen gives all of its pipelines. Those that are
    called come before those that call them."""
    file, chosen = _split(target)
    if file.suffix != ".py" or not file.is_file() or chosen or name or arguments:
        return load_pipeline(target, name, arguments).prepared()
    file = file.resolve()
    module = import_file(file)
    candidates = _candidates(_definitions(file, module), module)
    pipelines = [each for each in candidates if isinstance(each, Pipeline)]
    if len(pipelines) < len(candidates):
        return _load_chosen(file, module, None, {}).prepared()
    return _prepare(file, pipelines)


def load_pipeline(target: str, name: str | None = None, arguments: Mapping[str, str] | None = None) -> LoadedPipeline:
    """`target` is FILE, FILE:PIPELINE or FILE:TEMPLATE; `arguments` are a template's, as texts.

    LoadError, DefinitionError, ParameterError or BundleError say what is wrong.
    """
    given = arguments or {}
    file, chosen = _split(target)
    name = chosen or name
    if file.is_dir():
        raise LoadError("this is a folder", field=str(file), remedy="name a .py or .yaml file in it")
    if not file.is_file():
        raise LoadError("there is no such file", field=str(file), remedy="give a .py or .yaml file")
    if file.suffix in YAML_SUFFIXES:
        return _load_yaml(file, name, given)
    if file.suffix == ".py":
        return _load_python(file.resolve(), name, given)
    raise LoadError(
        f"the ending {file.suffix!r} is not known", field=str(file), remedy="give a .py, .yaml or .yml file"
    )


def _split(target: str) -> tuple[Path, str | None]:
    file, colon, name = target.rpartition(":")
    if colon and file and name and not Path(target).exists():
        return Path(file), name
    return Path(target), None


def _load_yaml(file: Path, name: str | None, arguments: Mapping[str, str]) -> LoadedPipeline:
    from penstock.yaml_format import load_document

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        text = f"the file cannot be read: {error.strerror}"
        raise LoadError(text, field=str(file), remedy="make it readable for this user") from None
    except UnicodeDecodeError as error:
        raise LoadError(f"the file cannot be read: {error}", field=str(file), remedy="save it as UTF-8") from None
    with _in_file(file):
        document = load_document(text, argument_texts=arguments)
    if name is not None and name != document.spec.name:
        raise LoadError(f"the file holds {document.spec.name!r}, not {name!r}", field=str(file))
    read_named_locks(document.spec, file.resolve().parent)
    if document.bundle is None:
        return LoadedPipeline(document.spec, None)
    folder = (file.resolve().parent / document.bundle).resolve()
    if not folder.is_dir():
        raise LoadError(
            "there is no such folder", field=f"bundle: {document.bundle}", remedy="it is relative to the file"
        )
    with _in_file(file):
        check_stages(document, folder)
        check_functions(document, folder)
    bundle = build_bundle(folder)
    document.spec.bundle_digest = bundle.digest
    set_code_digests(document.spec, BundleCode(Layout(folder).import_roots(), bundle.digest))
    return LoadedPipeline(document.spec, bundle)


@contextmanager
def refused_of(target: str) -> Iterator[None]:
    """The coordinator knows no files: what it does not accept is said of the file that it was read from."""
    try:
        yield
    except ServiceError as error:
        if error.code in _OF_THE_DEFINITION:
            error.location = error.location or target
        raise


@contextmanager
def _in_file(file: Path) -> Iterator[None]:
    try:
        yield
    except YamlError as error:
        error.location = error.location or str(file)
        raise


def _load_python(file: Path, name: str | None, arguments: Mapping[str, str]) -> LoadedPipeline:
    return _load_chosen(file, import_file(file), name, arguments)


def _load_chosen(file: Path, module: ModuleType, name: str | None, arguments: Mapping[str, str]) -> LoadedPipeline:
    chosen = _choose(file, module, name, bool(arguments))
    if isinstance(chosen, Template):
        with _explained(file, f"the body of the template {chosen.name!r} fails"):
            pipeline = chosen.from_texts(arguments)
    else:
        pipeline = _without_arguments(chosen, arguments)
    *called, own = _prepare(file, [pipeline])
    return LoadedPipeline(own.spec, own.bundle, tuple(called))


def _prepare(file: Path, pipelines: list[Pipeline]) -> list[PreparedPipeline]:
    for pipeline in pipelines:
        _called_first(file, pipeline)
    return prepare(pipelines)


def _called_first(file: Path, pipeline: Pipeline) -> list[Pipeline]:
    with _explained(file, f"the body of the pipeline {pipeline.name!r} fails"):
        return called_first([pipeline])


def _without_arguments(pipeline: Pipeline, arguments: Mapping[str, str]) -> Pipeline:
    for argument in arguments:
        raise ParameterError(
            f"{pipeline.name!r} is no template and takes no structure arguments",
            field=argument,
            remedy="give a parameter with -p, or choose a template: FILE:NAME",
        )
    return pipeline


def _choose(file: Path, module: ModuleType, name: str | None, template: bool) -> Pipeline | Template[Any]:
    """`template`: only a template will do, if the name does not say otherwise."""
    found = _definitions(file, module)
    if name is not None:
        return _named(file, found, name)
    candidates = _candidates(found, module)
    candidates = [each for each in candidates if isinstance(each, Template)] or candidates if template else candidates
    candidates = _outermost(file, candidates) if len(candidates) > 1 else candidates
    if len(candidates) > 1:
        names = [each.name for each in candidates]
        if len(set(names)) < len(names):
            names = [attribute for attribute, each in found.items() if any(each is other for other in candidates)]
        what = "pipelines and templates" if any(isinstance(each, Template) for each in candidates) else "pipelines"
        raise LoadError(
            f"the file defines several {what}: {', '.join(sorted(names))}",
            field=str(file),
            remedy=f"choose one: {file.name}:NAME",
        )
    return candidates[0]


def _definitions(file: Path, module: ModuleType) -> dict[str, Pipeline | Template[Any]]:
    found = {attribute: value for attribute, value in vars(module).items() if isinstance(value, Pipeline | Template)}
    if not found:
        raise LoadError("the file defines no pipeline", field=str(file), remedy="put @pipeline on a function")
    return found


def _candidates(found: dict[str, Pipeline | Template[Any]], module: ModuleType) -> list[Pipeline | Template[Any]]:
    """Those that the file defines, each once; those that it imports if it defines none."""
    distinct = list({id(each): each for each in found.values()}.values())
    return [each for each in distinct if each.function.__module__ == module.__name__] or distinct


def _outermost(file: Path, candidates: list[Pipeline | Template[Any]]) -> list[Pipeline | Template[Any]]:
    """Without the pipelines that others of them call."""
    pipelines = [each for each in candidates if isinstance(each, Pipeline)]
    called = {id(below) for each in pipelines for below in _called_first(file, each) if below is not each}
    return [each for each in candidates if id(each) not in called]


def _named(file: Path, found: dict[str, Pipeline | Template[Any]], name: str) -> Pipeline | Template[Any]:
    if name in found:
        return found[name]
    for each in found.values():
        if each.name == name:
            return each
    raise LoadError(f"there is no pipeline {name!r}", field=str(file), remedy=nearest(name, found))


def import_file(file: Path) -> ModuleType:
    """The module of `file`, imported under the name and with the import path that an agent will use."""
    layout = layout_of(file)
    name = layout.module_of(file)
    _extend_import_path(layout, file)
    with _explained(file, "the module does not import"):
        return _import(file, name)


@contextmanager
def _explained(file: Path, what: str) -> Iterator[None]:
    """Errors of the user's code become a LoadError with their frames; ours say at which line they were met."""
    try:
        yield
    except PenstockError as error:
        error.location = error.location or _user_line(error)
        raise
    except (Exception, SystemExit) as error:
        raise LoadError(
            f"{what}: {type(error).__name__}: {error}",
            field=str(file),
            remedy=_remedy(error),
            user_traceback=_user_traceback(error, file),
        ) from error


def _user_line(error: BaseException) -> str:
    """The innermost line that is not ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _is_ours(filename: str) -> bool:
    return filename.startswith("<frozen ") or Path(filename).is_relative_to(_PACKAGE)


def _import(file: Path, name: str) -> ModuleType:
    if (file.parent / "__init__.py").exists():
        module = importlib.import_module(name)
        if Path(module.__file__ or "").resolve() != file:
            raise LoadError(
                f"the name {name!r} belongs to another module, {module.__file__}",
                field=str(file),
                remedy="rename the file or its package",
            )
        return module
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise LoadError("the file is no Python module", field=str(file), remedy="give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _extend_import_path(layout: Layout, file: Path) -> None:
    """For good: steps may import more when the body of the pipeline runs."""
    folders = layout.import_roots()
    if layout.script_folder(file) is not None:
        folders.insert(0, file.parent)
    sys.path[:0] = [str(folder) for folder in folders if str(folder) not in sys.path]
    importlib.invalidate_caches()


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        name = error.name.partition(".")[0]
        return f"install {name!r} here, or import it in the steps that need it; agents get it by `requirements`"
    return "mend the lines above" if not isinstance(error, SystemExit) else _MAIN_REMEDY


def _user_traceback(error: BaseException, file: Path) -> str:
    """The frames from the user's file on, without those of the loader."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return "".join(traceback.format_exception_only(error))
    frames = list(traceback.extract_tb(error.__traceback__))
    first = next((at for at, frame in enumerate(frames) if Path(frame.filename) == file), len(frames))
    return "".join([*traceback.format_list(frames[first:]), *traceback.format_exception_only(error)])
