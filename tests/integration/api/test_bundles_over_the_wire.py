"""BundleService through a real client."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import grpc
import pytest
from tests.integration.api.answers import answer_of, refused
from tests.integration.api.conftest import ARCHIVE_LIMITS, PATIENCE, Edge, on_both_kinds_of_stores
from tests.unit.archives.hostile_archives import HOSTILE, bomb, file, pack

from penstock.v1 import bundle_service_pb2 as pb
from penstock_coordinator.api.bundle_service import CHUNK_BYTES, UPLOADS, BundleService

HONEST = pack(file("a.py", b"x = 1\n"), file("noise", os.urandom(2_500_000)))
SMALL = pack(file("a.py"))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def messages(
    data: bytes, *, named: str | None = None, size: int | None = None, chunk: int = CHUNK_BYTES
) -> AsyncIterator[pb.UploadBundleRequest]:
    for start in range(0, max(len(data), 1), chunk):
        message = pb.UploadBundleRequest(chunk=data[start : start + chunk])
        if not start:
            message.digest = digest(data) if named is None else named
            message.size_bytes = len(data) if size is None else size
        yield message


async def upload(edge: Edge, requests: AsyncIterator[pb.UploadBundleRequest]) -> pb.UploadBundleResponse:
    return await edge.bundles.Upload(requests, timeout=PATIENCE)


async def download(edge: Edge, name: str) -> bytes:
    parts = [part async for part in edge.bundles.Get(pb.GetBundleRequest(digest=name), timeout=PATIENCE)]
    assert parts[0].size_bytes == sum(len(part.chunk) for part in parts)
    return b"".join(part.chunk for part in parts)


@on_both_kinds_of_stores
async def test_a_bundle_is_stored_once_and_comes_back_whole(edge: Edge) -> None:
    name = digest(HONEST)
    assert not (await edge.bundles.Has(pb.HasBundlesRequest(digests=[name]))).present_digests
    first = await upload(edge, messages(HONEST))
    assert (first.digest, first.created) == (name, True)
    assert not (await upload(edge, messages(HONEST))).created
    other = digest(b"")
    assert (await edge.bundles.Has(pb.HasBundlesRequest(digests=[other, name]))).present_digests == [name]
    assert await download(edge, name) == HONEST


@pytest.mark.parametrize(
    ("requests", "code", "field"),
    [
        (lambda: messages(SMALL, named=digest(b"other")), "INVALID_ARGUMENT", "digest"),
        (lambda: messages(SMALL, named="x"), "INVALID_ARGUMENT", "digest"),
        (lambda: messages(SMALL, named=digest(SMALL).upper()), "INVALID_ARGUMENT", "digest"),
        (lambda: messages(SMALL, named=""), "INVALID_ARGUMENT", "digest"),
        (lambda: messages(SMALL, size=0), "INVALID_ARGUMENT", "size_bytes"),
        (lambda: messages(SMALL, size=-1), "INVALID_ARGUMENT", "size_bytes"),
        (lambda: messages(SMALL, size=len(SMALL) - 1), "INVALID_ARGUMENT", "size_bytes"),
        (lambda: messages(SMALL, size=len(SMALL) + 1), "INVALID_ARGUMENT", "size_bytes"),
        (lambda: messages(HONEST, chunk=CHUNK_BYTES + 1), "INVALID_ARGUMENT", "chunk"),
        (lambda: messages(SMALL, size=ARCHIVE_LIMITS.packed_bytes + 1), "RESOURCE_EXHAUSTED", None),
        (lambda: messages(bomb(16 << 20)), "RESOURCE_EXHAUSTED", None),
    ],
)
async def test_a_wrong_upload_is_refused_and_leaves_nothing(
    edge: Edge, requests: object, code: str, field: str | None
) -> None:
    assert callable(requests)
    answer = await refused(upload(edge, requests()))
    assert answer.code.name == code
    assert list(answer.violations) == ([] if field is None else [field])
    assert not (await edge.backend.stores.bundles.present([digest(SMALL), digest(HONEST), digest(b"other")]))


async def test_hostile_archives_are_refused_and_leave_nothing(edge: Edge) -> None:
    for name, case in HOSTILE.items():
        packed = case.pack()
        if not 0 < len(packed) <= ARCHIVE_LIMITS.packed_bytes:
            continue
        answer = await refused(upload(edge, messages(packed)))
        assert (answer.code.name, list(answer.violations)) == ("INVALID_ARGUMENT", ["chunk"]), name
        assert any(each in answer.message for each in case.says.split("|")), (name, answer.message)
        assert not await edge.backend.stores.bundles.present([digest(packed)]), name


async def test_a_bundle_at_its_limits_and_one_past_them(edge: Edge) -> None:
    most = ARCHIVE_LIMITS
    whole = [file(f"f{number}") for number in range(most.files)]
    assert (await upload(edge, messages(pack(*whole)))).created
    past = await refused(upload(edge, messages(pack(*whole, file("more")))))
    assert (past.code, past.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUNDLE_TOO_LARGE")
    assert "more than the 100 files of PENSTOCK_MAX_BUNDLE_FILES: leave out" in past.message
    assert (await upload(edge, messages(pack(file("a", bytes(most.unpacked_bytes)))))).created
    past = await refused(upload(edge, messages(pack(file("a", bytes(most.unpacked_bytes + 1))))))
    assert "more than the 8,388,608 bytes of PENSTOCK_MAX_BUNDLE_UNPACKED_SIZE: leave out" in past.message
    past = await refused(upload(edge, messages(SMALL, size=most.packed_bytes + 1)))
    assert "4,194,305 bytes, and 4,194,304 is the limit" in past.message
    assert "PENSTOCK_MAX_BUNDLE_SIZE" in past.message
    at = await refused(upload(edge, messages(SMALL, size=most.packed_bytes)))
    assert list(at.violations) == ["size_bytes"], "so much may come, but did not"


async def test_an_upload_without_a_message_is_refused(edge: Edge) -> None:
    async def none() -> AsyncIterator[pb.UploadBundleRequest]:
        return
        yield

    assert list((await refused(upload(edge, none()))).violations) == ["digest"]


async def test_too_many_uploads_at_once_are_told_to_wait(edge: Edge) -> None:
    go_on = asyncio.Event()
    begun = [asyncio.Event() for _ in range(UPLOADS)]

    async def slow(number: int) -> AsyncIterator[pb.UploadBundleRequest]:
        data = pack(file(f"f{number}"))
        yield pb.UploadBundleRequest(digest=digest(data), size_bytes=len(data))
        begun[number].set()
        await go_on.wait()
        yield pb.UploadBundleRequest(chunk=data)

    uploads = [asyncio.create_task(upload(edge, slow(number))) for number in range(UPLOADS)]
    async with asyncio.timeout(PATIENCE):
        for event in begun:
            await event.wait()
        while True:
            # The first messages are on their way: the last place is taken as soon as they are there.
            try:
                await upload(edge, messages(pack(file(os.urandom(4).hex()))))
            except grpc.aio.AioRpcError as error:
                answer = answer_of(error)
                break
    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answer.reason == "TOO_MANY_UPLOADS"
    assert answer.retry_seconds is not None
    assert 0.5 <= answer.retry_seconds <= 1.5, "spread, so that those who were refused together come back apart"
    go_on.set()
    assert all([(await each).created for each in uploads])
    assert (await upload(edge, messages(SMALL))).created


async def test_an_upload_that_stands_still_is_ended_and_gives_its_place_back(edge: Edge) -> None:
    service = BundleService(edge.backend.stores, edge.backend.clock, ARCHIVE_LIMITS, upload_seconds=0.01)
    never = asyncio.Event()

    async def hanging() -> AsyncIterator[pb.UploadBundleRequest]:
        yield pb.UploadBundleRequest(digest=digest(SMALL), size_bytes=len(SMALL))
        await never.wait()

    from penstock.v1.bundle_service_pb2_grpc import BundleServiceStub, add_BundleServiceServicer_to_server
    from penstock_coordinator.api.guard import CallGuard

    server = grpc.aio.server(interceptors=[CallGuard()])
    add_BundleServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        bundles = BundleServiceStub(channel)
        for _ in range(UPLOADS + 1):
            answer = await refused(bundles.Upload(hanging(), timeout=PATIENCE))
            assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert answer.reason == "UPLOAD_TOO_SLOW"
    await server.stop(0)


async def test_an_unknown_bundle_is_not_found(edge: Edge) -> None:
    answer = await refused(edge.bundles.Get(pb.GetBundleRequest(digest=digest(b"no"))).read())
    assert answer.code is grpc.StatusCode.NOT_FOUND
    wrong = await refused(edge.bundles.Get(pb.GetBundleRequest(digest="no")).read())
    assert list(wrong.violations) == ["digest"]


async def test_questions_about_bundles_are_bounded(edge: Edge) -> None:
    answer = await refused(edge.bundles.Has(pb.HasBundlesRequest(digests=[digest(b"")] * 1_001)))
    assert list(answer.violations) == ["digests"]
    form = await refused(edge.bundles.Has(pb.HasBundlesRequest(digests=[digest(b""), "a\0"])))
    assert list(form.violations) == ["digests[1]"]
