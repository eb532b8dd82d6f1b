"""A call of what may be a step, in the body of a pipeline: plain, or mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.authoring.graph import Graph, Source, Target, current_graph
from penstock.authoring.mapping import read_mapped_call
from penstock.authoring.options import StepOptions
from penstock.authoring.references import Joined, Nested, NodeOutput, Unmapped
from penstock.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Call:
    """What is to run, under which name, with which arguments."""

    target: Target
    options: StepOptions
    name: str
    arguments: Mapping[str, Any]

    def add(self, graph: Graph) -> NodeOutput:
        if self.options.max_parallel is not None:
            raise DefinitionError(
                "max_parallel is given to a plain call",
                field=f"{self.name}.max_parallel",
                remedy="it is of maps: use .map(...), or give the pipeline a max_parallel",
            )
        inputs: dict[str, Source] = {}
        for name, value in self.arguments.items():
            if isinstance(value, Unmapped | Joined | Nested):
                raise DefinitionError(
                    f"{type(value).__name__.lower()}(...) is given to a plain call",
                    field=f"{self.name}.{name}",
                    remedy="it belongs into .map(...)",
                )
            inputs[name] = graph.source(value, f"{self.name}.{name}")
        return graph.add(self.target, self.options, self.name, inputs)

    def add_map(self, graph: Graph, *, zipped: bool) -> NodeOutput:
        limit = self.options.max_parallel or 0
        call = read_mapped_call(graph, self.name, self.arguments, zipped=zipped, max_parallel=limit)
        return graph.add(self.target, self.options, self.name, call.inputs, call.over)


def graph_for(what: str, field: str) -> Graph:
    """The graph that is being drawn. `what` is used outside of one: an error that names `field`."""
    graph = current_graph()
    if graph is None:
        raise DefinitionError(
            f"{what} is used outside a pipeline", field=field, remedy="call it in the body of a @pipeline"
        )
    return graph


def graph_for_map(what: str) -> Graph:
    graph = current_graph()
    if graph is None:
        raise DefinitionError(
            f"{what} is used outside a pipeline",
            remedy="call it in the body of a @pipeline; elsewhere use a loop over the plain function",
        )
    return graph
