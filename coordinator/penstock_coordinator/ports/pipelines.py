"""Pipelines and their versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from penstock_coordinator.ports.requests import Repeated, RequestKey


@dataclass(frozen=True, slots=True)
class VersionRow:
    pipeline: str
    number: int
    digest: str
    spec: bytes
    """Serialised penstock.v1.PipelineSpec; empty in lists."""
    step_count: int
    create_time: int


@dataclass(frozen=True, slots=True)
class PipelineRow:
    name: str
    create_time: int
    latest: VersionRow


class PipelineStore(Protocol):
    """Pipelines and their versions. All methods raise `Unavailable`."""

    async def create_version(
        self, pipeline: str, digest: str, spec: bytes, step_count: int, now: int, request: RequestKey | None
    ) -> tuple[VersionRow, bool] | Repeated:
        """The version of that content, and whether it is new. A deleted pipeline comes back and counts on. Repeated
        with `same` False if the request id came with other content; the same content answers as the first time."""

    async def get_pipeline(self, name: str) -> PipelineRow | None:
        """None also if it was deleted."""

    async def get_version(self, name: str, number: int) -> VersionRow | None:
        """With its specification; number 0 is the newest. None also if the pipeline was deleted."""

    async def version_by_digest(self, digest: str) -> VersionRow | None:
        """Also of a deleted pipeline: runs keep their versions."""

    async def list_pipelines(self, limit: int, after: str = "") -> list[PipelineRow]:
        """By name."""

    async def list_versions(self, name: str, limit: int, before: int | None = None) -> list[VersionRow]:
        """Newest first, without specifications."""

    async def delete_pipeline(self, name: str, now: int, request: RequestKey | None) -> bool | Repeated:
        """False: there is none."""
