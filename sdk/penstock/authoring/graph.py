"""The graph that the body of a pipeline draws while it runs once, at build time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.authoring.compensation import chosen, own_options, undo_name
from penstock.authoring.options import StepOptions
from penstock.authoring.references import NodeOutput, ParameterReference, Reference
from penstock.errors import DefinitionError
from penstock.json_values import Json, plain_json
from penstock.names import check_name, nearest

if TYPE_CHECKING:
    from penstock.authoring.compensation import Compensation
    from penstock.authoring.pipelines import Pipeline


_OUTPUT_REMEDY = "return the output of a step, a dict of such outputs, or nothing"


@dataclass(frozen=True, slots=True)
class Constant:
    value: Json


@dataclass(frozen=True, slots=True)
class Item:
    """The item of a mapped step run, or a part of it."""

    path: tuple[str, ...] = ()


Source: TypeAlias = Constant | Item | ParameterReference | NodeOutput


@dataclass(frozen=True, slots=True)
class MapOver:
    """What a node is mapped over: lists by the arguments that get their members."""

    lists: Mapping[str, Source]
    zipped: bool = False
    joined: bool = False
    nested: tuple[str, ...] | None = None
    """Where the items of the mapped step have their lists."""
    max_parallel: int = 0


@dataclass(frozen=True, slots=True)
class FunctionTarget:
    function: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class CommandTarget:
    argv: tuple[str, ...]
    shell: str
    outputs: Mapping[str, Any]
    success_exit_codes: tuple[int, ...]
    input_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PipelineTarget:
    """A run of a pipeline. Version 0 is the newest when the run is started."""

    name: str
    version: int
    pipeline: Pipeline | None
    """The pipeline that is to be there first; None: the coordinator has it."""


Target: TypeAlias = FunctionTarget | CommandTarget | PipelineTarget


@dataclass(slots=True, eq=False)
class Node:
    """One step of the pipeline under construction."""

    graph: Graph
    name: str
    target: Target
    options: StepOptions
    inputs: dict[str, Source]
    over: MapOver | None = None
    upstream: list[Node | str] = field(default_factory=list)
    compensate: Node | None = None
    """What undoes it."""
    undoes: Node | None = None

    def wait_for(self, others: tuple[Any, ...]) -> None:
        for other in others:
            if isinstance(other, str):
                self.upstream.append(other)
                continue
            self.upstream.append(self.graph.own(other, f"steps.{self.name}.depends_on"))

    def undo_by(self, other: Node) -> None:
        """`other` undoes this one, and nothing else."""
        field = f"steps.{self.name}.compensate"
        if other is self:
            raise DefinitionError("the step cannot undo itself", field=field, remedy="give the output of another step")
        if self.compensate is not None:
            raise DefinitionError(
                f"the step is undone by {self.compensate.name!r} already", field=field, remedy="give one of them"
            )
        if other.undoes is not None:
            raise DefinitionError(
                f"{other.name!r} undoes {other.undoes.name!r} already",
                field=field,
                remedy="call that step once more: a step undoes one other",
            )
        own_options(other.options, f"steps.{other.name}")
        self.compensate, other.undoes = other, self


class Graph:
    """Nodes in the order of their calls, with unique names."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.nodes: dict[str, Node] = {}
        self.output: NodeOutput | dict[str, NodeOutput] | None = None
        """What the body returned: the output of its runs."""

    def add(
        self,
        target: Target,
        options: StepOptions,
        name: str,
        inputs: Mapping[str, Source],
        over: MapOver | None = None,
    ) -> NodeOutput:
        """`options.name` is taken as it is; without one, `name` gets a number if it is taken."""
        node = Node(self, self._free_name(options.name, name), target, options, dict(inputs), over)
        node.wait_for(options.depends_on)
        self.nodes[node.name] = node
        output = NodeOutput(node)
        if options.compensate is not None:
            self._undo(node, options.compensate.penstock_compensation(), output)
        return output

    def _undo(self, node: Node, by: Compensation, output: NodeOutput) -> None:
        inputs = chosen(by.wanted, node.inputs, output, node.name, by.name)
        name = self._free_name(None, by.options.name or undo_name(node.name))
        other = Node(self, name, by.target, own_options(by.options, name), inputs)
        self.nodes[name] = other
        node.undo_by(other)

    def _free_name(self, exact: str | None, base: str) -> str:
        if exact is not None:
            if exact in self.nodes:
                raise DefinitionError(
                    "two steps have this name",
                    field=f"steps.{exact}",
                    remedy="give one of them another with .options(name=...)",
                )
            return exact
        name, number = base, 1
        while name in self.nodes:
            number += 1
            name = f"{base}_{number}"
        return name

    def own(self, output: Any, where: str) -> Node:
        """The node of a reference, which must be one of this pipeline."""
        node = getattr(output, "penstock_node", None)
        if not isinstance(node, Node):
            raise DefinitionError(
                f"{output!r} names no step", field=where, remedy="give what the call of a step returned"
            )
        if node.graph is not self:
            raise DefinitionError(
                f"{output!r} belongs to the pipeline {node.graph.pipeline!r}",
                field=where,
                remedy="use only outputs of steps of the same pipeline",
            )
        return node

    def source(self, value: Any, where: str) -> Source:
        """What an argument of a step stands for: a reference, or a constant of JSON values."""
        if isinstance(value, NodeOutput):
            self.own(value, where)
            return value
        if isinstance(value, ParameterReference):
            return value
        _refuse_nested(value, where)
        return Constant(plain_json(value, where, DefinitionError))

    def give(self, returned: Any) -> None:
        """Takes what the body returned as the output of the pipeline's runs."""
        if returned is None or isinstance(returned, NodeOutput):
            self.output = returned if returned is None else self._output(returned, "output")
        elif isinstance(returned, Mapping) and returned:
            self.output = {
                check_name(name, "output"): self._output(output, f"output.{name}") for name, output in returned.items()
            }
        else:
            raise DefinitionError(f"the body returns {_kind_of(returned)}", field="output", remedy=_OUTPUT_REMEDY)

    def _output(self, value: Any, where: str) -> NodeOutput:
        if not isinstance(value, NodeOutput):
            raise DefinitionError(f"the body returns {_kind_of(value)}", field=where, remedy=_OUTPUT_REMEDY)
        self.own(value, where)
        return value

    def check_upstream_names(self) -> None:
        for node in self.nodes.values():
            for name in node.upstream:
                if isinstance(name, str) and name not in self.nodes:
                    raise DefinitionError(
                        f"there is no step {name!r}",
                        field=f"steps.{node.name}.depends_on",
                        remedy=nearest(name, self.nodes),
                    )


def _kind_of(value: Any) -> str:
    return repr(value) if isinstance(value, Reference) else f"a value of the type {type(value).__name__}"


def _refuse_nested(value: Any, where: str) -> None:
    """A reference inside a list or a dict has no place in the specification."""
    members: list[tuple[Any, Any]] = []
    if isinstance(value, list | tuple):
        members = list(enumerate(value))
    elif isinstance(value, Mapping):
        members = list(value.items())
    for key, member in members:
        if isinstance(member, Reference):
            raise DefinitionError(
                f"{member!r} stands inside a {type(value).__name__}",
                field=f"{where}[{key!r}]",
                remedy="pass each output as an argument of its own",
            )
        if isinstance(member, list | tuple | Mapping):
            _refuse_nested(member, f"{where}[{key!r}]")


_current: ContextVar[Graph | None] = ContextVar("penstock_graph", default=None)


def current_graph() -> Graph | None:
    """The graph that is being drawn; None outside the body of a pipeline."""
    return _current.get()


def draw(graph: Graph, body: Callable[[], Any]) -> Any:
    """Runs `body` with `graph` as the current one."""
    token = _current.set(graph)
    try:
        return body()
    finally:
        _current.reset(token)
