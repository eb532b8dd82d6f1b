"""The secrets that the steps of a specification name, and who names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from penstock.v1.pipeline_pb2 import PipelineSpec

SHOWN_STEPS = 3


class NamedSecret(NamedTuple):
    name: str
    steps: tuple[str, ...]
    """The first of those that name it."""
    others: int
    """How many more do."""


def named_secrets(spec: PipelineSpec) -> tuple[NamedSecret, ...]:
    """By name. Of a step that is a pipeline that one's own steps say what they need."""
    shared = [use.name for use in spec.defaults.secrets]
    steps: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for step in spec.steps:
        if step.WhichOneof("action") == "pipeline":
            continue
        for name in dict.fromkeys([*shared, *(use.name for use in step.secrets)]):
            counts[name] = counts.get(name, 0) + 1
            if counts[name] <= SHOWN_STEPS:
                steps.setdefault(name, []).append(step.name)
    return tuple(NamedSecret(name, tuple(steps[name]), counts[name] - len(steps[name])) for name in sorted(steps))
