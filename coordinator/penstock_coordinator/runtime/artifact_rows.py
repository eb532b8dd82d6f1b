"""The rows of artifacts: what made them, and what was given them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.model import FunctionAction
from penstock_coordinator.core.plan.references import may_refer, references_in
from penstock_coordinator.core.plan.values import parse
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.ports import OF_RUN, ArtifactRow, UseRow, WorkRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.events import ArtifactsMade
    from penstock_coordinator.core.run.state import Run


def work_row(run: Run, step: int, item: int, attempt: int, token: int) -> WorkRow:
    plan = run.plan
    node = plan.steps[step]
    return WorkRow(
        step=step,
        item=item,
        generation=run.generation,
        attempt=attempt,
        token=token,
        pipeline=plan.pipeline,
        version_digest=plan.digest,
        step_name=node.name,
        display_name=run.display_name(step, item),
        code_digest=node.action.code_digest if isinstance(node.action, FunctionAction) else "",
    )


def artifact_rows(seq: int, event: ArtifactsMade, work: WorkRow) -> list[ArtifactRow]:
    return [
        ArtifactRow(
            seq=seq,
            position=position,
            at=event.at,
            work=work,
            name=made.name,
            digest=made.digest,
            size=made.size,
            media_type=made.media_type,
            kind=made.kind,
            codec=made.codec,
            metadata=made.metadata,
        )
        for position, made in enumerate(event.artifacts)
    ]


def use_rows(work: WorkRow, at: int, uses: Iterable[tuple[str, str]]) -> list[UseRow]:
    """Of (input, digest), each once."""
    return [UseRow(at, work, name, digest) for name, digest in dict.fromkeys(uses)]


def uses_of(inputs: Mapping[str, bytes]) -> tuple[tuple[str, str], ...]:
    """(name, digest) of all references in JSON values by name. Raises `BadReference`."""
    return tuple(
        (name, each.digest) for name, data in inputs.items() if may_refer(data) for each in references_in(parse(data))
    )


def work_of_run(plan: Plan) -> WorkRow:
    """What a run was given by its parameters."""
    return WorkRow(OF_RUN, WHOLE, 1, 0, 0, plan.pipeline, plan.digest, "", "", "")
