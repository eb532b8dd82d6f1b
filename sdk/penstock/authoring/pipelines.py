"""`@pipeline`: a Python function whose body draws the graph of steps."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast, overload

from penstock.authoring.budget import Budget, read_budget
from penstock.authoring.concurrency import MAX_LIMIT, Concurrency, read_concurrency
from penstock.authoring.graph import Graph, current_graph, draw
from penstock.authoring.options import (
    DefaultKeywords,
    StepOptions,
    read_defaults,
    require_count,
    require_grace,
    require_labels,
    require_priority,
    require_span,
    require_weight,
)
from penstock.authoring.other_words import OF_PIPELINES, unknown_member
from penstock.authoring.references import ParameterReference
from penstock.authoring.shapes import entries_of, members_of
from penstock.authoring.sub_pipelines import SubPipeline, SubPipelineKeywords
from penstock.errors import DefinitionError
from penstock.json_values import Json, plain_json
from penstock.names import check_name
from penstock.parameters import ParameterType, check_fits

if TYPE_CHECKING:
    from penstock.authoring.compensation import Compensation
    from penstock.bundle.archive import Bundle
    from penstock.quantities import Span
    from penstock.v1 import pipeline_pb2

_TYPES: dict[Any, ParameterType] = {
    str: ParameterType.STRING,
    int: ParameterType.INT,
    float: ParameterType.FLOAT,
    bool: ParameterType.BOOL,
    list: ParameterType.LIST,
    tuple: ParameterType.LIST,
    Sequence: ParameterType.LIST,
    dict: ParameterType.MAP,
    Mapping: ParameterType.MAP,
    Any: ParameterType.ANY,
    object: ParameterType.ANY,
    inspect.Parameter.empty: ParameterType.ANY,
}

_MAX_PARALLEL = 2**31 - 1
_ON_FAILURE = ("leave", "rollback")


@dataclass(frozen=True, slots=True)
class PipelineParameter:
    name: str
    type: ParameterType
    required: bool
    default: Json = None


class PipelineKeywords(TypedDict, total=False):
    """The options of a pipeline."""

    name: str
    description: str
    timeout: Span | None
    max_parallel: int
    fail_fast: bool
    on_failure: str
    priority: int
    weight: float | None
    max_active_runs: int
    concurrency: Concurrency | str | None
    budget: Budget | None
    cache: bool
    labels: Mapping[str, str]
    stop_grace: Span | None
    defaults: DefaultKeywords
    bundle: bool | None
    allow_pickle: Sequence[str]
    requirements: Sequence[str] | Mapping[str, Any] | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions:
    """Options after checking. Spans are nanoseconds."""

    name: str
    description: str
    timeout: int | None
    max_parallel: int
    fail_fast: bool
    on_failure: str
    priority: int
    weight: float | None
    max_active_runs: int
    concurrency: Concurrency | None
    budget: Budget | None
    cache: bool
    labels: Mapping[str, str]
    stop_grace: int | None
    defaults: StepOptions
    bundle: bool | None
    allow_pickle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """What a pipeline was made from."""

    name: str
    arguments: Mapping[str, Json]


class Pipeline:
    """A pipeline in Python. Its body runs once, when the specification is first asked for."""

    __name__: str
    __wrapped__: Callable[..., Any]

    def __init__(self, function: Callable[..., Any], given: PipelineKeywords) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.penstock_options = _read_options(function, given)
        self.parameters = _read_parameters(function)
        self.template: TemplateUse | None = None
        self._graph: Graph | None = None

    @property
    def name(self) -> str:
        return self.penstock_options.name

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    if not TYPE_CHECKING:  # type checkers know that there is nothing else

        def __getattr__(self, name):
            raise unknown_member(self, name, OF_PIPELINES)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In the body of a pipeline: a step that is a run of this one, its sub-pipeline. The arguments are the run's
        parameters, and what is returned stands for the run's output."""
        if current_graph() is None:
            raise DefinitionError(
                f"the pipeline {self.name!r} is called as a function",
                remedy="start it with Client().start(...) or `penstock run FILE`",
            )
        return self._as_step()(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """In the body of a pipeline: a run for each item of a list. See `Step.map`."""
        return self._as_step().map(*args, **kwargs)

    def zip(self, *args: Any, **kwargs: Any) -> Any:
        """As `map` over several lists, whose members go together. See `Step.zip`."""
        return self._as_step().zip(*args, **kwargs)

    def options(self, **overrides: Unpack[SubPipelineKeywords]) -> SubPipeline:
        """The pipeline as a step with options, for the body of another one."""
        return self._as_step().options(**overrides)

    def penstock_compensation(self) -> Compensation:
        """As a step that undoes another one."""
        return self._as_step().penstock_compensation()

    def _as_step(self) -> SubPipeline:
        return SubPipeline(self.name, self)

    def graph(self) -> Graph:
        """The nodes that the body draws; the same at each call."""
        if self._graph is None:
            graph = Graph(self.name)
            references = {name: ParameterReference(name, each.type) for name, each in self.parameters.items()}
            graph.give(draw(graph, lambda: self._run_body(references)))
            if not graph.nodes:
                raise DefinitionError(
                    "the pipeline has no steps", field="steps", remedy="call at least one step in its body"
                )
            graph.check_upstream_names()
            self._graph = graph
        return self._graph

    def _run_body(self, references: dict[str, ParameterReference]) -> Any:
        result = self.function(**references)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise DefinitionError(
                "the body of a pipeline is async", field=self.name, remedy="use def; steps may be async"
            )
        return result

    def spec(self, bundle_digest: str = "") -> pipeline_pb2.PipelineSpec:
        """The specification, a new message at each call. The digest is that of `build_bundle`, if it is sent."""
        from penstock.authoring.specification import build_spec

        return build_spec(self, bundle_digest)

    def to_yaml(self) -> str:
        """The specification as the YAML that `penstock apply` reads, without a bundle digest."""
        from penstock.yaml_format import dump

        return dump(self.spec())

    def build_bundle(self) -> Bundle | None:
        """The archive of the source tree that the functions need; None if no step needs one."""
        from penstock.authoring.sources import bundle_pipeline

        return bundle_pipeline(self)


@overload
def pipeline(function: Callable[..., Any], /) -> Pipeline: ...
@overload
def pipeline(**options: Unpack[PipelineKeywords]) -> Callable[[Callable[..., Any]], Pipeline]: ...
def pipeline(function: Callable[..., Any] | None = None, /, **options: Unpack[PipelineKeywords]) -> Any:
    """Makes a function a pipeline: its parameters are the pipeline's, its body calls the steps, and what it returns
    (the output of a step, or a dict of such) is the output of its runs.

    Parameters are annotated with str, int, float, bool, list, dict or Any (or not at all: any JSON value).
    `defaults` holds step options for all steps; `bundle` says whether the source tree is shipped (None: if a
    step is a Python function). With `on_failure="rollback"` a run that would end FAILED undoes what was done, by the
    `compensate` steps of its steps. With `cache=False` no step is answered from the cache, whatever its policy says.
    `requirements` are those of all steps, unless a step says others (a list, or a dict with `packages` or `lock`, and
    `python`); without them the block of comments counts that the file may have (`# /// script`). `allow_pickle` names
    the steps whose values may be written as pickles, and which may read them: a pickle runs code when it is read.
    """

    def decorate(target: Callable[..., Any]) -> Pipeline:
        if not inspect.isfunction(target):
            raise DefinitionError(f"{target!r} is no function", remedy="put @pipeline on a def")
        return Pipeline(target, options)

    return decorate if function is None else decorate(function)


def _read_options(function: Callable[..., Any], given: PipelineKeywords) -> PipelineOptions:
    unknown = set(given) - set(PipelineKeywords.__annotations__)
    if unknown:
        known = ", ".join(sorted(PipelineKeywords.__annotations__))
        raise DefinitionError("a pipeline has no such option", field=min(unknown), remedy=f"known: {known}")
    timeout, stop_grace, weight = given.get("timeout"), given.get("stop_grace"), given.get("weight")
    concurrency = given.get("concurrency")
    return PipelineOptions(
        name=check_name(given.get("name", function.__name__), "name"),
        description=given.get("description", first_paragraph(function)),
        timeout=None if timeout is None else require_span(timeout, "timeout"),
        max_parallel=require_count(given.get("max_parallel", 0), "max_parallel", 0, _MAX_PARALLEL),
        fail_fast=bool(given.get("fail_fast", False)),
        on_failure=_read_on_failure(given.get("on_failure", "leave")),
        priority=require_priority(given.get("priority", 0), "priority"),
        weight=None if weight is None else require_weight(weight, "weight"),
        max_active_runs=require_count(given.get("max_active_runs", 0), "max_active_runs", 0, MAX_LIMIT),
        concurrency=None if concurrency is None else read_concurrency(concurrency, "concurrency"),
        budget=None if given.get("budget") is None else read_budget(given["budget"]),
        cache=_read_cache(given.get("cache", True)),
        labels=require_labels(given.get("labels", {}), "labels"),
        stop_grace=None if stop_grace is None else require_grace(stop_grace, "stop_grace"),
        defaults=read_defaults(_with_requirements(given)),
        bundle=given.get("bundle"),
        allow_pickle=_read_allow_pickle(given.get("allow_pickle", ())),
    )


def _with_requirements(given: PipelineKeywords) -> DefaultKeywords:
    """Requirements of a pipeline are those of all its steps."""
    defaults = cast("DefaultKeywords", entries_of(given.get("defaults"), "defaults", 'as in {"retries": 3}'))
    if given.get("requirements") is None:
        return defaults
    if defaults.get("requirements") is not None:
        remedy = "give them to the pipeline, or to its defaults"
        raise DefinitionError("they are given twice", field="requirements", remedy=remedy)
    return {**defaults, "requirements": given["requirements"]}


def _read_cache(value: Any) -> bool:
    if not isinstance(value, bool):
        remedy = "give False to switch the cache off; policies are for steps: defaults={'cache': ...}"
        raise DefinitionError(f"{value!r} is no bool", field="cache", remedy=remedy)
    return value


def _read_allow_pickle(names: Any) -> tuple[str, ...]:
    remedy = 'name the steps that may write and read pickles, as in ["train"]'
    given = members_of(names, "allow_pickle", remedy)
    return tuple(dict.fromkeys(check_name(name, "allow_pickle") for name in given))


def _read_on_failure(value: Any) -> str:
    if value not in _ON_FAILURE:
        raise DefinitionError(f"{value!r} is not known", field="on_failure", remedy='give "leave" or "rollback"')
    return str(value)


def first_paragraph(function: Callable[..., Any]) -> str:
    """Of the docstring, on one line."""
    text = inspect.getdoc(function) or ""
    return " ".join(text.split("\n\n")[0].split())


def _read_parameters(function: Callable[..., Any]) -> dict[str, PipelineParameter]:
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception as error:
        raise DefinitionError(
            f"an annotation cannot be read: {error}", field=function.__name__, remedy="use plain types"
        ) from error
    return {name: _read_parameter(parameter) for name, parameter in signature.parameters.items()}


def _read_parameter(parameter: inspect.Parameter) -> PipelineParameter:
    field = f"parameters.{parameter.name}"
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise DefinitionError(
            f"{parameter} stands for any number of parameters", field=field, remedy="name each parameter"
        )
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise DefinitionError("the parameter has no name to call it by", field=field, remedy="remove the '/'")
    kind = _read_annotation(parameter.annotation, field)
    if parameter.default is inspect.Parameter.empty:
        return PipelineParameter(parameter.name, kind, required=True)
    default = plain_json(parameter.default, f"{field}.default", DefinitionError)
    check_fits(kind, default, f"{field}.default", DefinitionError)
    return PipelineParameter(parameter.name, kind, required=False, default=default)


def _read_annotation(annotation: Any, field: str) -> ParameterType:
    origin = typing.get_origin(annotation)
    if origin is not None and origin not in (typing.Union, types.UnionType, typing.Literal):
        annotation = origin
    try:
        return _TYPES[annotation]
    except (KeyError, TypeError):
        name = getattr(annotation, "__name__", None) or str(annotation)
        raise DefinitionError(
            f"the annotation {name} is no type of a parameter",
            field=field,
            remedy="use str, int, float, bool, list, dict, or Any for every JSON value",
        ) from None
