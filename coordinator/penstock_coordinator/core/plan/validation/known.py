"""What the checks of single steps need to know of the whole pipeline."""

from __future__ import annotations

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

    @classmethod
    def of(cls, spec: pb.PipelineSpec) -> Known:
        numbers: dict[str, int] = {}
        mapped: list[bool] = []
        for number, step in enumerate(spec.steps):
            numbers.setdefault(step.name, number)
            mapped.append(step.HasField("map"))
        return cls(spec, numbers, {each.name: each.type for each in spec.parameters}, mapped)

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
        if step.map.WhichOneof("over") == "step":
            names.add(step.map.step.step)
        return names
