"""Calls about pipelines, their versions and their bundles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from penstock.authoring.pipelines import Pipeline
from penstock.authoring.preparing import PreparedPipeline, prepare
from penstock.authoring.templates import Template
from penstock.client.connection import Connection
from penstock.client.identity import new_request_id
from penstock.client.upload import upload_bundle
from penstock.errors import DefinitionError
from penstock.v1 import (
    bundle_service_pb2_grpc,
    pipeline_pb2,
    pipeline_service_pb2,
    pipeline_service_pb2_grpc,
)

if TYPE_CHECKING:
    from penstock.bundle.archive import Bundle


class PipelineCalls(Connection):
    """The part of `Client` that is about pipelines."""

    def _pipelines(self) -> pipeline_service_pb2_grpc.PipelineServiceStub:
        return self._stub(pipeline_service_pb2_grpc.PipelineServiceStub)

    def _bundles(self) -> bundle_service_pb2_grpc.BundleServiceStub:
        return self._stub(bundle_service_pb2_grpc.BundleServiceStub)

    async def create_pipeline(
        self, pipeline: Pipeline | pipeline_pb2.PipelineSpec, *, request_id: str | None = None
    ) -> pipeline_pb2.PipelineVersion:
        """Adds a version, or answers with the one that has this very content.

        A Python pipeline's source tree is bundled and uploaded first, and the pipelines that it calls are created
        before it. A specification is sent as it is: its bundle must be there (see `upload_bundle`), and so must the
        pipelines that it names.
        """
        refuse_template(pipeline)
        if not isinstance(pipeline, Pipeline):
            return await self._create(pipeline, request_id)
        *called, own = await asyncio.to_thread(prepare, [pipeline])
        await self.create_prepared(called)
        return (await self.create_prepared([own], request_id=request_id))[0]

    async def create_prepared(
        self, prepared: Iterable[PreparedPipeline], *, request_id: str | None = None
    ) -> list[pipeline_pb2.PipelineVersion]:
        """Uploads what is prepared (see `penstock.authoring.preparing`) and creates it, one after the other."""
        versions = []
        for each in prepared:
            if each.bundle is not None:
                await self.upload_bundle(each.bundle)
            versions.append(await self._create(each.spec, request_id))
        return versions

    async def _create(self, spec: pipeline_pb2.PipelineSpec, request_id: str | None) -> pipeline_pb2.PipelineVersion:
        request = pipeline_service_pb2.CreatePipelineRequest(spec=spec, request_id=request_id or new_request_id())
        response: pipeline_service_pb2.CreatePipelineResponse = await self._call(self._pipelines().Create, request)
        self._warn(response.warnings)
        return response.version

    async def upload_bundle(self, bundle: Bundle) -> bool:
        """Uploads the archive unless the coordinator has it. Whether it was uploaded."""
        return await upload_bundle(self._caller, self._bundles(), bundle, self._metadata, new_request_id())

    async def validate(self, pipeline: Pipeline | pipeline_pb2.PipelineSpec) -> list[tuple[str, str]]:
        """The (field, description) of every problem; none: `create_pipeline` would accept it, if the pipelines are
        there that it names. Uploads nothing. Those that a Python pipeline calls are looked at too; a field of theirs
        begins with their name. What is only warned of is logged, as by `create_pipeline`."""
        if not isinstance(pipeline, Pipeline):
            return await self._validate(pipeline)
        *called, own = await asyncio.to_thread(prepare, [pipeline])
        problems = [
            (f"{each.spec.name}: {field}", text) for each in called for field, text in await self._validate(each.spec)
        ]
        return problems + await self._validate(own.spec)

    async def _validate(self, spec: pipeline_pb2.PipelineSpec) -> list[tuple[str, str]]:
        request = pipeline_service_pb2.ValidatePipelineRequest(spec=spec)
        response: pipeline_service_pb2.ValidatePipelineResponse = await self._call(self._pipelines().Validate, request)
        self._warn(response.warnings)
        return [(problem.field, problem.description) for problem in response.problems]

    async def get_pipeline(self, name: str, version: int = 0) -> pipeline_service_pb2.GetPipelineResponse:
        """The pipeline and the version asked for (0: the newest) with its specification."""
        request = pipeline_service_pb2.GetPipelineRequest(name=name, version_number=version)
        response: pipeline_service_pb2.GetPipelineResponse = await self._call(self._pipelines().Get, request)
        return response

    async def list_pipelines(self) -> AsyncIterator[pipeline_pb2.Pipeline]:
        """All pipelines, ordered by name; pages are fetched as they are needed."""
        request = pipeline_service_pb2.ListPipelinesRequest()
        async for page in self._pages(self._pipelines().List, request):
            for pipeline in page.pipelines:
                yield pipeline

    async def list_versions(self, name: str) -> AsyncIterator[pipeline_pb2.PipelineVersion]:
        """All versions of a pipeline without their specifications, newest first."""
        request = pipeline_service_pb2.ListPipelineVersionsRequest(name=name)
        async for page in self._pages(self._pipelines().ListVersions, request):
            for version in page.versions:
                yield version

    async def diff_versions(
        self, name: str, version: int = 0, other: int = 0
    ) -> pipeline_service_pb2.DiffVersionsResponse:
        """What is different in `other` (0: the newest) from `version` (0: the one before `other`)."""
        request = pipeline_service_pb2.DiffVersionsRequest(pipeline=name, number=version, other_number=other)
        response: pipeline_service_pb2.DiffVersionsResponse = await self._call(self._pipelines().DiffVersions, request)
        return response

    async def delete_pipeline(self, name: str, *, request_id: str | None = None) -> None:
        """Takes the pipeline out of lists. FailedPreconditionError while it has live runs."""
        request = pipeline_service_pb2.DeletePipelineRequest(name=name, request_id=request_id or new_request_id())
        await self._call(self._pipelines().Delete, request)


def refuse_template(pipeline: Any) -> None:
    if isinstance(pipeline, Template):
        raise DefinitionError(
            f"{pipeline!r} makes pipelines and is none", remedy=f"call it with its arguments: {pipeline.name}(...)"
        )
