"""PipelineService through a real client."""

from __future__ import annotations

import hashlib

import grpc
import pytest
from tests.integration.api.answers import refused
from tests.integration.api.conftest import ONE_STEP, Edge, spec

from penstock.v1 import difference_pb2
from penstock.v1 import pipeline_service_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec

FUNCTION = {"name": "f", "function": {"module": "m", "qualname": "q"}}


async def test_a_version_is_created_once_and_found_again(edge: Edge) -> None:
    first = await edge.create()
    again = await edge.create()
    assert first.created
    assert not again.created
    assert again.version == first.version
    assert first.version.number == 1
    assert first.version.step_count == 1
    second = await edge.create(spec({"name": "a"}, {"name": "b"}))
    assert second.version.number == 2
    newest = await edge.pipelines.Get(pb.GetPipelineRequest(name="p"))
    assert newest.version == (await edge.pipelines.Get(pb.GetPipelineRequest(name="p", version_number=2))).version
    assert [step.name for step in newest.version.spec.steps] == ["a", "b"]
    assert newest.pipeline.latest_version.number == 2
    assert not newest.pipeline.latest_version.HasField("spec")
    old = await edge.pipelines.Get(pb.GetPipelineRequest(name="p", version_number=1))
    assert old.version.spec == ONE_STEP
    stored = old.version.spec.SerializeToString(deterministic=True)
    assert old.version.digest == hashlib.sha256(stored).hexdigest()


async def test_pipelines_and_versions_are_listed_in_pages(edge: Edge) -> None:
    for name in ("b", "a", "c"):
        await edge.create(spec({"name": "s"}, name=name))
    page = await edge.pipelines.List(pb.ListPipelinesRequest(page_size=2))
    assert [row.name for row in page.pipelines] == ["a", "b"]
    rest = await edge.pipelines.List(pb.ListPipelinesRequest(page_size=2, page_token=page.next_page_token))
    assert [row.name for row in rest.pipelines] == ["c"]
    assert rest.next_page_token == ""
    for count in (2, 3):
        await edge.create(spec(*({"name": f"s{number}"} for number in range(count)), name="a"))
    versions = await edge.pipelines.ListVersions(pb.ListPipelineVersionsRequest(name="a", page_size=2))
    assert [row.number for row in versions.versions] == [3, 2]
    assert not versions.versions[0].HasField("spec")
    older = await edge.pipelines.ListVersions(
        pb.ListPipelineVersionsRequest(name="a", page_size=2, page_token=versions.next_page_token)
    )
    assert [row.number for row in older.versions] == [1]


async def test_a_page_token_is_good_for_its_own_list_alone(edge: Edge) -> None:
    for name in ("a", "b"):
        await edge.create(spec({"name": "s"}, name=name))
    token = (await edge.pipelines.List(pb.ListPipelinesRequest(page_size=1))).next_page_token
    for call in (
        edge.pipelines.ListVersions(pb.ListPipelineVersionsRequest(name="a", page_token=token)),
        edge.pipelines.List(pb.ListPipelinesRequest(page_token=token[:-1])),
        edge.pipelines.List(pb.ListPipelinesRequest(page_token="x" + token)),
        edge.pipelines.List(pb.ListPipelinesRequest(page_token="ä")),
        edge.pipelines.List(pb.ListPipelinesRequest(page_token="A" * 5_000)),
    ):
        answer = await refused(call)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(answer.violations) == ["page_token"]


@pytest.mark.parametrize("size", [-1, 1_001])
async def test_a_page_size_out_of_bounds_is_refused(edge: Edge, size: int) -> None:
    answer = await refused(edge.pipelines.List(pb.ListPipelinesRequest(page_size=size)))
    assert list(answer.violations) == ["page_size"]


async def test_a_deleted_pipeline_comes_back_and_counts_on(edge: Edge) -> None:
    await edge.create()
    await edge.pipelines.Delete(pb.DeletePipelineRequest(name="p"))
    assert not (await edge.pipelines.List(pb.ListPipelinesRequest())).pipelines
    for call in (
        edge.pipelines.Get(pb.GetPipelineRequest(name="p")),
        edge.pipelines.ListVersions(pb.ListPipelineVersionsRequest(name="p")),
        edge.pipelines.Delete(pb.DeletePipelineRequest(name="p")),
    ):
        answer = await refused(call)
        assert answer.code is grpc.StatusCode.NOT_FOUND
        assert list(answer.violations) == ["name"]
    assert (await edge.create(spec({"name": "other"}))).version.number == 2


async def test_all_problems_come_at_once_and_nothing_is_stored(edge: Edge) -> None:
    wrong = spec(
        {"name": "a", "depends_on": ["nope"]}, {"name": "a"}, {"name": "b", "command": {"argv": []}}, name="../x"
    )
    expected = {"name", "steps[0].depends_on[0]", "steps[1].name", "steps[2].command"}
    answer = await refused(edge.create(wrong))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.reason == "INVALID_SPECIFICATION"
    assert expected <= set(answer.violations)
    assert "name: " in answer.message
    validated = await edge.pipelines.Validate(pb.ValidatePipelineRequest(spec=wrong))
    assert {problem.field: problem.description for problem in validated.problems} == answer.violations
    assert not (await edge.pipelines.List(pb.ListPipelinesRequest())).pipelines


async def test_a_hundred_problems_fit_into_an_answer(edge: Edge) -> None:
    wrong = spec(*({"name": f"s{number}", "depends_on": ["ß" * 100]} for number in range(300)))
    answer = await refused(edge.create(wrong))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(answer.violations) > 5


async def test_a_pipeline_without_its_bundle_is_refused(edge: Edge) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    wanted = spec(FUNCTION, bundle_digest=digest)
    answer = await refused(edge.create(wanted))
    assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
    assert answer.reason == "BUNDLE_MISSING"
    assert list(answer.violations) == ["bundle_digest"]
    assert not (await edge.pipelines.Validate(pb.ValidatePipelineRequest(spec=wanted))).problems
    await edge.backend.stores.bundles.put(digest, b"x", 1)
    assert (await edge.create(wanted)).created


async def test_a_field_that_this_release_does_not_know_is_refused(edge: Edge) -> None:
    newer = PipelineSpec.FromString(ONE_STEP.SerializeToString() + b"\xfa\x7f\x03new")
    answer = await refused(edge.create(newer))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "does not know" in answer.message


@pytest.mark.parametrize("method", ["Create", "Validate"])
async def test_a_missing_specification_is_named(edge: Edge, method: str) -> None:
    request = pb.CreatePipelineRequest() if method == "Create" else pb.ValidatePipelineRequest()
    answer = await refused(getattr(edge.pipelines, method)(request))
    assert list(answer.violations) == ["spec"]


@pytest.mark.parametrize("name", ["", "a\0b", "../../etc/passwd", "a" * 129])
async def test_what_is_no_name_is_refused(edge: Edge, name: str) -> None:
    for call in (
        edge.pipelines.Get(pb.GetPipelineRequest(name=name)),
        edge.pipelines.ListVersions(pb.ListPipelineVersionsRequest(name=name)),
        edge.pipelines.Delete(pb.DeletePipelineRequest(name=name)),
    ):
        answer = await refused(call)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(answer.violations) == ["name"]


async def test_a_large_specification_passes(edge: Edge) -> None:
    steps: list[dict[str, object]] = [{"name": "s0"}]
    steps += [{"name": f"s{number}", "depends_on": [f"s{number - 1}"]} for number in range(1, 5_000)]
    assert (await edge.create(spec(*steps))).version.step_count == 5_000


async def test_two_versions_are_compared(edge: Edge) -> None:
    await edge.create(spec({"name": "a"}, {"name": "b"}))
    await edge.create(spec({"name": "a", "when": "true"}, {"name": "b"}, max_parallel=2))
    await edge.create(spec({"name": "a", "when": "true"}, {"name": "c", "depends_on": ["a"]}, max_parallel=2))
    found = await edge.pipelines.DiffVersions(pb.DiffVersionsRequest(pipeline="p"))
    assert (found.number, found.other_number) == (2, 3)
    assert [(each.step, each.kind) for each in found.steps] == [
        ("c", difference_pb2.DIFFERENCE_KIND_ADDED),
        ("b", difference_pb2.DIFFERENCE_KIND_REMOVED),
    ]
    found = await edge.pipelines.DiffVersions(pb.DiffVersionsRequest(pipeline="p", number=1, other_number=2))
    assert [(each.path, each.HasField("before_json"), each.after_json) for each in found.changes] == [
        ("max_parallel", False, "2")
    ]
    assert [(each.step, each.changes[0].path, each.changes[0].after_json) for each in found.steps] == [
        ("a", "when", '"true"')
    ]
    backwards = await edge.pipelines.DiffVersions(pb.DiffVersionsRequest(pipeline="p", number=3, other_number=3))
    assert not backwards.changes
    assert not backwards.steps


async def test_versions_that_cannot_be_compared(edge: Edge) -> None:
    await edge.create(spec({"name": "a"}))
    for request, field in [
        (pb.DiffVersionsRequest(), "pipeline"),
        (pb.DiffVersionsRequest(pipeline="other"), "pipeline"),
        (pb.DiffVersionsRequest(pipeline="p"), "number"),
        (pb.DiffVersionsRequest(pipeline="p", number=7, other_number=1), "number"),
        (pb.DiffVersionsRequest(pipeline="p", number=1, other_number=7), "other_number"),
        (pb.DiffVersionsRequest(pipeline="p", number=-1), "number"),
    ]:
        answer = await refused(edge.pipelines.DiffVersions(request))
        assert list(answer.violations) == [field]


async def test_a_great_difference_fits_into_one_answer(edge: Edge) -> None:
    async def create(text: str) -> None:
        steps = ({"name": f"s{number}", "description": text * 300} for number in range(3_000))
        await edge.create(spec(*steps))

    await create("x")
    await create("y")
    found = await edge.pipelines.DiffVersions(pb.DiffVersionsRequest(pipeline="p"))
    assert len(found.steps) == 3_000
    assert len(found.steps[0].changes[0].after_json) == 60
