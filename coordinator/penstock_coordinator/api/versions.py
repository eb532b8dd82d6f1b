"""The version that a run is to be started of, found without reading its specification each time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from penstock.v1.pipeline_pb2 import Parameter, PipelineSpec
from penstock_coordinator.api.errors import CallError, not_found, unknown_version
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.secret_names import NamedSecret, named_secrets

if TYPE_CHECKING:
    from penstock_coordinator.ports import PipelineStore, VersionRow

KEPT_VERSIONS = 1_000

_Key = TypeVar("_Key", str, tuple[str, int])


@dataclass(frozen=True, slots=True)
class Declared:
    """What a version declares for its runs."""

    parameters: tuple[Parameter, ...]
    labels: dict[str, str]
    priority: int
    weight: float
    secrets: tuple[NamedSecret, ...] = ()


class VersionFinder:
    def __init__(self, pipelines: PipelineStore) -> None:
        self._pipelines = pipelines
        self._declared: OrderedDict[str, Declared] = OrderedDict()
        self._newest: OrderedDict[str, VersionRow] = OrderedDict()
        self._numbered: OrderedDict[tuple[str, int], VersionRow] = OrderedDict()

    def remembered(self, pipeline: str) -> VersionRow | None:
        """The version that was the newest when it was last looked for, without its specification. Whoever uses it makes
        sure that it still is."""
        return self._newest.get(pipeline)

    def numbered(self, pipeline: str, number: int) -> VersionRow | None:
        """The version of that number, if it was looked for not long ago. The pipeline may have been deleted since."""
        return self._numbered.get((pipeline, number))

    def forget(self, pipeline: str) -> None:
        """What is remembered of the pipeline is not so any more."""
        self._newest.pop(pipeline, None)

    async def find(self, pipeline: str, number: int) -> VersionRow:
        """Without its specification; number 0 is the newest. Raises NOT_FOUND, also of a deleted pipeline."""
        rows = await self._pipelines.list_versions(pipeline, 1, number + 1 if number else None)
        if rows and number in (0, rows[0].number):
            _keep(self._numbered, (pipeline, rows[0].number), rows[0])
            if not number:
                _keep(self._newest, pipeline, rows[0])
            return rows[0]
        if number and await self._pipelines.list_versions(pipeline, 1):
            raise unknown_version(pipeline, number)
        raise unknown_pipeline(pipeline, "pipeline")

    def known(self, version: VersionRow) -> Declared | None:
        """What it declares, if that was asked for not long ago."""
        return self._declared.get(version.digest)

    async def declared(self, version: VersionRow) -> Declared:
        found = self._declared.get(version.digest)
        if found is None:
            row = await self._pipelines.version_by_digest(version.digest)
            if row is None:  # deleted long ago, and removed at this moment
                raise unknown_pipeline(version.pipeline, "pipeline")
            spec = PipelineSpec.FromString(row.spec)
            found = self._declared[version.digest] = Declared(
                parameters=tuple(spec.parameters),
                labels=dict(spec.labels),
                priority=spec.priority,
                weight=spec.weight or 1.0,
                secrets=named_secrets(spec),
            )
            if len(self._declared) > KEPT_VERSIONS:
                self._declared.popitem(last=False)
        else:
            self._declared.move_to_end(version.digest)
        return found


def _keep(rows: OrderedDict[_Key, VersionRow], key: _Key, row: VersionRow) -> None:
    rows[key] = row
    rows.move_to_end(key)
    if len(rows) > KEPT_VERSIONS:
        rows.popitem(last=False)


def unknown_pipeline(name: str, field: str) -> CallError:
    remedy = "`penstock list pipelines` (List) names those that there are"
    return not_found(field, "UNKNOWN_PIPELINE", f"there is no pipeline {quoted(name)}: {remedy}")
