"""Artifacts and their lineage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.v1 import artifact_service_pb2 as pb
from penstock_coordinator.api.encoding.values import instant
from penstock_coordinator.api.fields import run_id_text

if TYPE_CHECKING:
    from penstock_coordinator.ports import Artifact
    from penstock_coordinator.runtime.lineage import LineageStep

_KINDS = {"value": pb.ARTIFACT_KIND_VALUE, "file": pb.ARTIFACT_KIND_FILE, "dir": pb.ARTIFACT_KIND_DIR}
_POSITION = re.compile(r"\[([0-9]+)\]")


def artifact_id(found: Artifact) -> str:
    return f"{run_id_text(found.run_id)}:{found.row.seq}:{found.row.position}"


def artifact(found: Artifact) -> pb.Artifact:
    row, work = found.row, found.row.work
    return pb.Artifact(
        id=artifact_id(found),
        digest=row.digest,
        size_bytes=row.size,
        media_type=row.media_type,
        kind=_KINDS.get(row.kind, pb.ARTIFACT_KIND_UNSPECIFIED),
        codec=row.codec,
        name=row.name,
        metadata_json=row.metadata.decode("utf-8", "replace"),
        create_time=instant(row.at),
        run_id=run_id_text(found.run_id),
        pipeline=work.pipeline,
        pipeline_version=found.version_number,
        pipeline_digest=work.version_digest,
        step=work.step_name,
        item=_place(work.display_name),
        display_name=work.display_name,
        generation=work.generation,
        attempt=work.attempt,
        code_digest=work.code_digest,
    )


def lineage_step(found: LineageStep) -> pb.LineageStep:
    work = found.work
    return pb.LineageStep(
        depth=found.depth,
        run_id=run_id_text(found.run_id),
        pipeline=work.pipeline,
        pipeline_version=found.version_number,
        pipeline_digest=work.version_digest,
        step=work.step_name,
        item=_place(work.display_name),
        display_name=work.display_name,
        generation=work.generation,
        attempt=work.attempt,
        code_digest=work.code_digest,
        time=instant(found.at),
        inputs=[pb.LineageInput(name=name, digest=digest) for name, digest in found.inputs],
        made=[artifact(each) for each in found.made],
    )


def _place(display_name: str) -> list[int]:
    """As it was then; names have no brackets."""
    return [int(position) for position in _POSITION.findall(display_name)]
