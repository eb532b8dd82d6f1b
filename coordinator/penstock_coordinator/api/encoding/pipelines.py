"""Pipelines and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import pipeline_pb2
from penstock_coordinator.api.encoding.values import instant

if TYPE_CHECKING:
    from penstock_coordinator.ports import PipelineRow, VersionRow


def pipeline(row: PipelineRow) -> pipeline_pb2.Pipeline:
    return pipeline_pb2.Pipeline(
        name=row.name,
        latest_version=version(row.latest),
        create_time=instant(row.create_time),
        update_time=instant(row.latest.create_time),
    )


def version(row: VersionRow, *, with_spec: bool = False) -> pipeline_pb2.PipelineVersion:
    return pipeline_pb2.PipelineVersion(
        pipeline=row.pipeline,
        number=row.number,
        digest=row.digest,
        spec=pipeline_pb2.PipelineSpec.FromString(row.spec) if with_spec else None,
        create_time=instant(row.create_time),
        step_count=row.step_count,
    )
