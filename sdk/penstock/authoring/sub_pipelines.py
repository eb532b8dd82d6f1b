"""Pipelines as steps of other pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from penstock.authoring.calls import Call, graph_for
from penstock.authoring.compensation import Compensation, Wanted
from penstock.authoring.graph import PipelineTarget
from penstock.authoring.options import Retry, StepOptions, TriggerRule, read_options, require_count
from penstock.authoring.references import Joined, Nested, NodeOutput, Reference, Unmapped
from penstock.errors import DefinitionError
from penstock.json_values import plain_json
from penstock.names import check_name, nearest
from penstock.parameters import ParameterType, check_fits

if TYPE_CHECKING:
    from penstock.authoring.pipelines import Pipeline
    from penstock.quantities import Span

_MAX_VERSION = 2**31 - 1
_OF_AGENTS = frozenset(
    {"queue", "labels", "cpu", "memory", "gpu", "resources", "env", "secrets", "container", "requirements", "priority"}
)


class SubPipelineKeywords(TypedDict, total=False):
    """The options of a step that is a run of a pipeline."""

    name: str
    version: int
    description: str
    retry: Retry | None
    retries: int
    overall_timeout: Span | None
    when: str
    trigger_rule: TriggerRule | str
    allow_failure: bool
    cleanup: bool
    depends_on: Any
    compensate: Any
    max_parallel: int


class SubPipeline:
    """A pipeline as a step: a call in the body of another pipeline adds a run of it, and returns its output.

    The arguments are the parameters of the run. It is a run of the newest version that there is when it is started,
    unless `.options(version=…)` names one.
    """

    def __init__(
        self, name: str, pipeline: Pipeline | None = None, version: int = 0, options: StepOptions | None = None
    ) -> None:
        self.penstock_name = name
        self.penstock_pipeline = pipeline
        self.penstock_version = version
        self.penstock_options = options or StepOptions()

    def __repr__(self) -> str:
        return f"<sub-pipeline {self.penstock_name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph, call = graph_for(f"{self!r}", self.penstock_name), self._call(args, kwargs)
        output = call.add(graph)
        self._check_constants(call.arguments)
        return output

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """One run for each item of a list; the output is the list of their outputs. Its rules are those of
        `Step.map`."""
        return self._add_map(args, kwargs, zipped=False)

    def zip(self, *args: Any, **kwargs: Any) -> Any:
        """As `map` over several lists, whose members go together."""
        return self._add_map(args, kwargs, zipped=True)

    def options(self, **overrides: Unpack[SubPipelineKeywords]) -> SubPipeline:
        """The same with other options; each one given replaces the former value of that option.

        `version` is a number from 1 on of a version that the coordinator has, or 0 for the newest.
        """
        given: dict[str, Any] = dict(overrides)
        for name in given:
            _check_option(name)
        version = _read_version(given.pop("version", self.penstock_version))
        changed = read_options(self.penstock_options, given)
        return SubPipeline(self.penstock_name, self.penstock_pipeline, version, changed)

    def penstock_compensation(self) -> Compensation:
        """As a step that undoes another one."""
        known = self._at_hand()
        if known is None:
            raise DefinitionError(
                f"the parameters of {self.penstock_name!r} are not known here",
                field="compensate",
                remedy="call it yourself, and use OUTPUT.compensate(...)",
            )
        target = PipelineTarget(self.penstock_name, self.penstock_version, known)
        name = self.penstock_options.name or self.penstock_name
        wanted = tuple(Wanted(each.name, each.required) for each in known.parameters.values())
        return Compensation(target, self.penstock_options, name, wanted)

    def _add_map(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, zipped: bool) -> NodeOutput:
        graph = graph_for(f"{self!r}.{'zip' if zipped else 'map'}", self.penstock_name)
        call = self._call(args, kwargs)
        output = call.add_map(graph, zipped=zipped)
        self._check_constants(call.arguments, mapped=True)
        return output

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        target = PipelineTarget(self.penstock_name, self.penstock_version, self._at_hand())
        return Call(target, self.penstock_options, self.penstock_name, self._bind(args, kwargs))

    def _at_hand(self) -> Pipeline | None:
        """The pipeline that runs. A version that is named may be another one than what is at hand."""
        return None if self.penstock_version else self.penstock_pipeline

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        known = self._at_hand()
        if known is None:
            if args:
                raise DefinitionError(
                    "a parameter is given by position, and their order is not known here",
                    field=self.penstock_name,
                    remedy="give parameters by name",
                )
            return kwargs
        signature = inspect.signature(known.function)
        try:
            return signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise DefinitionError(
                str(error), field=self.penstock_name, remedy=f"call it as {self.penstock_name}{signature}"
            ) from None

    def _check_constants(self, arguments: Mapping[str, Any], *, mapped: bool = False) -> None:
        known = self._at_hand()
        if known is None:
            return
        for name, value in arguments.items():
            field, kind = f"{self.penstock_name}.{name}", known.parameters[name].type
            for each in value if mapped and isinstance(value, list | tuple) else (value,):
                _check_constant(kind, each.value if isinstance(each, Unmapped) else each, field)


def pipeline_ref(name: str, *, version: int = 0) -> SubPipeline:
    """A pipeline that the coordinator has, by its name, as a step of the pipeline whose body calls it.

    Version 0 is the newest when its run is started. Parameters are given by name, and checked when the run starts.
    """
    return SubPipeline(check_name(name, "name"), version=_read_version(version))


def _check_option(name: str) -> None:
    if name in SubPipelineKeywords.__annotations__:
        return
    if name in _OF_AGENTS:
        problem, remedy = "no agent takes a run of a pipeline", "give it to that pipeline or to its steps"
    elif name in ("timeout", "queued_timeout"):
        problem = "a run of a pipeline has no such timeout"
        remedy = "use overall_timeout, or give that pipeline a timeout"
    elif name == "concurrency":
        problem = "a run of a pipeline holds no key of steps"
        remedy = "give that pipeline itself a concurrency or max_active_runs"
    else:
        problem, remedy = "there is no such option", nearest(name, SubPipelineKeywords.__annotations__)
    raise DefinitionError(problem, field=name, remedy=remedy)


def _read_version(value: Any) -> int:
    return require_count(value, "version", 0, _MAX_VERSION)


def _check_constant(kind: ParameterType, value: Any, field: str) -> None:
    if not isinstance(value, Reference | Joined | Nested):
        check_fits(kind, plain_json(value, field, DefinitionError), field, DefinitionError)
