"""What the store of pipelines promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

import pytest

from penstock_coordinator.ports import PipelineRow, Repeated, RequestKey, Stores, VersionRow


def _key(request_id: str, digest: bytes = b"content", method: str = "CreatePipeline") -> RequestKey:
    return RequestKey("", method, request_id, digest)


async def _create(
    stores: Stores, name: str, digest: str, *, now: int = 1, request: RequestKey | None = None
) -> tuple[VersionRow, bool] | Repeated:
    return await stores.pipelines.create_version(name, digest, f"spec of {digest}".encode(), 4, now, request)


async def test_versions_are_counted_from_one(stores: Stores) -> None:
    first = VersionRow("etl", 1, "d1", b"spec of d1", 4, 10)
    second = VersionRow("etl", 2, "d2", b"spec of d2", 4, 20)

    assert await _create(stores, "etl", "d1", now=10) == (first, True)
    assert await _create(stores, "etl", "d2", now=20) == (second, True)

    assert await stores.pipelines.get_version("etl", 0) == second
    assert await stores.pipelines.get_version("etl", 1) == first
    assert await stores.pipelines.get_version("etl", 3) is None
    assert await stores.pipelines.get_version("etl", 2**63 - 1) is None
    assert await stores.pipelines.get_version("none", 0) is None
    assert await stores.pipelines.version_by_digest("d1") == first
    assert await stores.pipelines.version_by_digest("none") is None
    assert await stores.pipelines.get_pipeline("etl") == PipelineRow("etl", 10, second)


async def test_the_same_content_is_the_same_version(stores: Stores) -> None:
    await _create(stores, "etl", "d1", now=10)
    await _create(stores, "etl", "d2", now=20)

    version, created = await _create(stores, "etl", "d1", now=30)  # type: ignore[misc]  # no request, so no Repeated

    assert not created
    assert (version.number, version.create_time) == (1, 10)
    assert len(await stores.pipelines.list_versions("etl", 10)) == 2


async def test_a_repeated_request_answers_as_the_first_time(stores: Stores) -> None:
    first = await _create(stores, "etl", "d1", now=10, request=_key("r"))
    await _create(stores, "etl", "d2", now=20)

    assert await _create(stores, "etl", "d1", now=30, request=_key("r")) == first
    other = await _create(stores, "etl", "d3", now=40, request=_key("r", b"other content"))
    assert isinstance(other, Repeated)
    assert not other.same
    assert await stores.pipelines.version_by_digest("d3") is None


async def test_a_repeated_request_does_not_bring_a_deleted_pipeline_back(stores: Stores) -> None:
    first = await _create(stores, "etl", "d1", request=_key("r"))
    await stores.pipelines.delete_pipeline("etl", 2, None)

    assert await _create(stores, "etl", "d1", request=_key("r")) == first
    assert await stores.pipelines.get_pipeline("etl") is None


async def test_a_deleted_pipeline_is_gone_but_for_the_versions_that_runs_keep(stores: Stores) -> None:
    await _create(stores, "etl", "d1")

    assert await stores.pipelines.delete_pipeline("etl", 2, None) is True

    assert await stores.pipelines.get_pipeline("etl") is None
    assert await stores.pipelines.get_version("etl", 1) is None
    assert await stores.pipelines.list_pipelines(10) == []
    assert await stores.pipelines.list_versions("etl", 10) == []
    kept = await stores.pipelines.version_by_digest("d1")
    assert kept is not None
    assert kept.number == 1
    assert await stores.pipelines.delete_pipeline("etl", 3, None) is False


async def test_a_deleted_pipeline_comes_back_and_counts_on(stores: Stores) -> None:
    await _create(stores, "etl", "d1")
    await stores.pipelines.delete_pipeline("etl", 2, None)

    version, created = await _create(stores, "etl", "d2", now=3)  # type: ignore[misc]  # no request, so no Repeated

    assert (version.number, created) == (2, True)
    assert [v.number for v in await stores.pipelines.list_versions("etl", 10)] == [2, 1]


async def test_a_repeated_delete_answers_as_the_first_time(stores: Stores) -> None:
    await _create(stores, "etl", "d1")
    key = _key("d", method="DeletePipeline")

    assert await stores.pipelines.delete_pipeline("etl", 2, key) is True
    assert await stores.pipelines.delete_pipeline("etl", 3, key) is True
    assert await stores.pipelines.delete_pipeline("none", 4, _key("n", method="DeletePipeline")) is False
    other = await stores.pipelines.delete_pipeline("x", 5, _key("d", b"other", method="DeletePipeline"))
    assert isinstance(other, Repeated)
    assert not other.same


async def test_pipelines_are_listed_by_name_bytewise_page_by_page(stores: Stores) -> None:
    for name in ("b", "a", "_x", "B", "a-1", "aa"):
        await _create(stores, name, f"digest of {name}")
    pages, after = [], ""
    while page := await stores.pipelines.list_pipelines(4, after):
        pages.append([row.name for row in page])
        after = page[-1].name

    assert pages == [["B", "_x", "a", "a-1"], ["aa", "b"]]
    assert all(row.latest.spec == b"" for row in await stores.pipelines.list_pipelines(10))


async def test_versions_are_listed_newest_first_page_by_page_without_specifications(stores: Stores) -> None:
    for number in range(1, 6):
        await _create(stores, "etl", f"d{number}")
    pages, before = [], None
    while page := await stores.pipelines.list_versions("etl", 2, before):
        pages.append([version.number for version in page])
        before = page[-1].number

    assert pages == [[5, 4], [3, 2], [1]]
    assert {v.spec for v in await stores.pipelines.list_versions("etl", 10)} == {b""}


async def test_versions_that_are_made_at_once_get_numbers_of_their_own(stores: Stores) -> None:
    made = await asyncio.gather(*(_create(stores, "etl", f"d{i}") for i in range(6)))

    versions = [version for version, _ in made]  # type: ignore[misc]  # no request, so no Repeated
    assert sorted(version.number for version in versions) == [1, 2, 3, 4, 5, 6]


async def test_one_request_that_comes_twice_at_once_is_done_once(stores: Stores) -> None:
    answers = await asyncio.gather(*(_create(stores, "etl", "d1", request=_key("r")) for _ in range(4)))

    assert all(answer == answers[0] for answer in answers)
    assert len(await stores.pipelines.list_versions("etl", 10)) == 1


async def test_a_specification_of_many_megabytes(stores: Stores) -> None:
    spec = bytes(range(256)) * 40_000

    await stores.pipelines.create_version("big", "d", spec, 100_000, 1, None)

    version = await stores.pipelines.get_version("big", 0)
    assert version is not None
    assert version.spec == spec


@pytest.mark.parametrize("name", ["nul\0nul", "lone \ud800 surrogate"])
async def test_nothing_is_found_by_a_name_that_is_no_text(stores: Stores, name: str) -> None:
    await _create(stores, "etl", "d1")

    assert await stores.pipelines.get_pipeline(name) is None
    assert await stores.pipelines.get_version(name, 0) is None
    assert await stores.pipelines.version_by_digest(name) is None
    assert await stores.pipelines.list_versions(name, 10) == []
    assert await stores.pipelines.delete_pipeline(name, 1, None) is False
    await stores.pipelines.list_pipelines(10, name)  # answers, whatever the page token was made of
