"""What the checks of single steps need to know of the whole pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from penstock.v1 import pipeline_pb2 as pb


@dataclass(frozen=True, slots=True)
class Known:
    spec: pb.PipelineSpec
    numbers: dict[str, int]
    """Steps by name; of a name that is there twice, the first."""
    parameters: dict[str, int]
    """Types by name."""
    mapped: list[bool]
    """By step."""
    depths: list[int]
    """By step the levels of its places: 0 is not mapped."""
    undoes: dict[int, int]
    """By step that undoes another one that one; of several the first."""

    @classmethod
    def of(cls, spec: pb.PipelineSpec) -> Known:
        numbers: dict[str, int] = {}
        mapped: list[bool] = []
        for number, step in enumerate(spec.steps):
            numbers.setdefault(step.name, number)
            mapped.append(step.HasField("map"))
        parameters: dict[str, int] = {each.name: each.type for each in spec.parameters}
        undoes: dict[int, int] = {}
        for number, step in enumerate(spec.steps):
            undoing = numbers.get(step.compensate) if step.compensate else None
            if undoing is not None and undoing != number:
                undoes.setdefault(undoing, number)
        return cls(spec, numbers, parameters, mapped, _depths(spec, numbers), undoes)

    def outputs(self, number: int) -> list[str] | None:
        """The members of a step's output, if it says which there are: only commands do."""
        step = self.spec.steps[number]
        if step.WhichOneof("action") != "command":
            return None
        return [output.name for output in step.command.outputs]

    def upstream(self, number: int) -> set[str]:
        """The names of the step's direct upstream, also of steps that do not exist."""
        step = self.spec.steps[number]
        names = set(step.depends_on)
        for source in step.inputs.values():
            if source.WhichOneof("source") == "step":
                names.add(source.step.step)
        names.update(reference.step for _, reference in mapped_outputs(step))
        return names


def mapped_outputs(step: pb.StepSpec) -> Iterator[tuple[str, pb.OutputReference]]:
    """The outputs that a step is mapped over, by their fields within the step."""
    if step.map.WhichOneof("over") == "step":
        yield "map.step", step.map.step
    for at, each in enumerate(step.map.lists):
        if each.WhichOneof("over") == "step":
            yield f"map.lists[{at}].step", each.step


def followed_name(step: pb.StepSpec) -> str | None:
    """The step that this one would go along with item by item, if that one is mapped."""
    over = step.map
    if over.WhichOneof("over") != "step" or over.lists or over.joined or over.step.path:
        return None
    return over.step.step


def _depths(spec: pb.PipelineSpec, numbers: dict[str, int]) -> list[int]:
    """Also of wrong specifications: in a cycle somebody counts as not deep. No recursion, chains are long."""
    depths = [int(step.HasField("map")) for step in spec.steps]
    known = [False] * len(depths)
    for number in range(len(depths)):
        chain: list[int] = []
        at: int | None = number
        while at is not None and not known[at]:
            known[at] = True
            chain.append(at)
            name = followed_name(spec.steps[at])
            at = None if name is None else numbers.get(name)
        for step in reversed(chain):
            name = followed_name(spec.steps[step])
            followed = 0 if name is None else depths[numbers[name]] if name in numbers else 0
            if followed:
                depths[step] = followed + spec.steps[step].map.HasField("nested")
    return depths
