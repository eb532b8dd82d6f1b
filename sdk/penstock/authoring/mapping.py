"""Maps: which of a call's arguments are the lists, and how they go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.authoring.graph import Graph, Item, MapOver, Source
from penstock.authoring.references import Joined, Nested, NodeOutput, ParameterReference, Unmapped
from penstock.errors import DefinitionError
from penstock.parameters import ParameterType


@dataclass(frozen=True, slots=True)
class MappedCall:
    """What a mapped call adds to its node."""

    inputs: dict[str, Source]
    over: MapOver


def read_mapped_call(
    graph: Graph, name: str, bound: Mapping[str, Any], *, zipped: bool, max_parallel: int
) -> MappedCall:
    """The arguments that may be lists are mapped over, the others are the same for every item. `name` is the step's,
    for errors."""
    lists = [argument for argument, value in bound.items() if _may_be_list(value)]
    verb = "zip" if zipped else "map"
    if not lists:
        raise DefinitionError(
            "no argument is a list to map over",
            field=f"{name}.{verb}",
            remedy="give a list, a parameter or the output of a step, not wrapped in unmapped(...)",
        )
    if zipped and len(lists) == 1:
        raise DefinitionError(
            f"only {lists[0]} is a list", field=f"{name}.zip", remedy="use .map(...), or give several lists"
        )
    inputs: dict[str, Source] = {}
    for argument, value in bound.items():
        if argument in lists:
            inputs[argument] = Item((argument,) if len(lists) > 1 else ())
        else:
            inputs[argument] = graph.source(_same_for_all(value), f"{name}.{argument}")
    sources = {argument: _list(graph, bound[argument], f"{name}.{argument}") for argument in lists}
    if len(lists) > 1:
        for argument in lists:
            _refuse_nested(bound[argument], f"{name}.{argument}")
        return MappedCall(inputs, MapOver(sources, zipped=zipped, max_parallel=max_parallel))
    return MappedCall(inputs, _one(bound[lists[0]], sources, max_parallel, f"{name}.{lists[0]}"))


def _one(value: Any, sources: dict[str, Source], max_parallel: int, where: str) -> MapOver:
    if isinstance(value, Nested):
        _require_mapped(value.output, "nested", where)
        whole = NodeOutput(value.output.penstock_node)
        return MapOver(dict.fromkeys(sources, whole), nested=value.output.path, max_parallel=max_parallel)
    if isinstance(value, Joined):
        _require_mapped(value.output, "joined", where)
        if value.output.path:
            raise DefinitionError(
                f"{value.output!r} is a part of one item", field=where, remedy="give the whole output to joined(...)"
            )
        return MapOver(sources, joined=True, max_parallel=max_parallel)
    return MapOver(sources, max_parallel=max_parallel)


def _require_mapped(output: NodeOutput, word: str, where: str) -> None:
    if output.penstock_node.over is None:
        raise DefinitionError(
            f"{output!r} is of a step that is not mapped, and {word}(...) is for those that are",
            field=where,
            remedy="give the output itself",
        )


def _refuse_nested(value: Any, where: str) -> None:
    if isinstance(value, Nested):
        raise DefinitionError(
            "nested(...) is one of several lists",
            field=where,
            remedy="map over it alone, and wrap the others in unmapped(...), or joined(...) it",
        )


def _list(graph: Graph, value: Any, where: str) -> Source:
    return graph.source(value.output if isinstance(value, Joined | Nested) else value, where)


def _same_for_all(value: Any) -> Any:
    return value.value if isinstance(value, Unmapped) else value


def _may_be_list(value: Any) -> bool:
    if isinstance(value, ParameterReference):
        return value.type in (ParameterType.LIST, ParameterType.ANY)
    return isinstance(value, NodeOutput | Joined | Nested | list | tuple)
