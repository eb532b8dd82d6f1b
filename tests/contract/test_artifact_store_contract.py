"""One suite on all stores of artifacts, over their real URLs."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.seaweed import SeaweedServer

from penstock.dev.ports import take_port
from penstock_coordinator.adapters.artifacts.local import LocalArtifactStore
from penstock_coordinator.adapters.artifacts.local_http import LocalArtifactRoutes
from penstock_coordinator.adapters.artifacts.s3 import open_s3_store
from penstock_coordinator.adapters.artifacts.signed_urls import UrlBook
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.ports.artifacts import (
    AlreadyThere,
    ArtifactStore,
    PartsMissing,
    PartUrl,
    TooLarge,
    UnknownUpload,
    Upload,
    WrongDigest,
)

MIB = 1 << 20
PART = 5 * MIB
SMALL = b"some bytes"
LARGE = hashlib.sha256(b"seed").digest() * (12 * MIB // 32) + b"end"


class OneKey:
    """A signer with one key."""

    def sign(self, content: bytes) -> tuple[int, str]:
        return 1, hmac.digest(b"key", content, "sha256").hex()

    async def verify(self, number: int, content: bytes, signature: str) -> bool:
        return number == 1 and hmac.compare_digest(self.sign(content)[1], signature)


@pytest.fixture(params=["local", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    if request.param == "s3":
        request.getfixturevalue("s3_credentials")
        server: SeaweedServer = request.getfixturevalue("seaweed")
        opened = await open_s3_store(server.url(), PART)
        yield opened
        await opened.aclose()
        return
    application = web.Application()
    base: list[str] = []
    urls = UrlBook(OneKey(), lambda: base[0], lambda: int(time.time()))
    local = LocalArtifactStore(tmp_path / "artifacts", urls, PART)
    application.add_routes(LocalArtifactRoutes(local, urls).routes())
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield local
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


async def send(http: aiohttp.ClientSession, part: PartUrl, content: bytes) -> int:
    body = content[part.offset : part.offset + part.size]
    async with http.put(
        part.url.url, data=body, headers=dict(part.url.headers), skip_auto_headers=["Content-Type"]
    ) as r:
        return r.status


async def etag_of(http: aiohttp.ClientSession, part: PartUrl, content: bytes) -> str:
    """What the store answers to who sends the part."""
    body = content[part.offset : part.offset + part.size]
    async with http.put(
        part.url.url, data=body, headers=dict(part.url.headers), skip_auto_headers=["Content-Type"]
    ) as r:
        assert r.status == 200
        return str(r.headers.get("ETag", ""))


async def send_all(http: aiohttp.ClientSession, upload: Upload, content: bytes) -> None:
    for part in upload.missing:
        assert await send(http, part, content) == 200


async def fetch(http: aiohttp.ClientSession, store: ArtifactStore, digest: str, **headers: str) -> tuple[int, bytes]:
    signed = await store.sign_download(digest)
    async with http.get(signed.url, headers={**dict(signed.headers), **headers}) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "in parts"])
async def test_what_is_sent_is_what_comes_back(
    store: ArtifactStore, http: aiohttp.ClientSession, content: bytes
) -> None:
    digest = digest_of(content)
    assert await store.find(digest) is None
    upload = await store.begin(digest, len(content), "text/csv")
    await send_all(http, upload, content)
    assert await store.complete(digest, upload.upload_id) == len(content)
    found = await store.find(digest)
    assert found is not None
    assert found.size == len(content)
    status, body = await fetch(http, store, digest)
    assert (status, digest_of(body)) == (200, digest)
    assert await store.get(digest, len(content)) == content


async def test_a_completed_upload_is_completed_again(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = digest_of(LARGE)
    upload = await store.begin(digest, len(LARGE), "")
    await send_all(http, upload, LARGE)
    assert await store.complete(digest, upload.upload_id) == len(LARGE)
    assert await store.complete(digest, upload.upload_id) == len(LARGE)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "in parts"])
async def test_who_says_that_he_brought_it_did(
    store: ArtifactStore, http: aiohttp.ClientSession, content: bytes
) -> None:
    """Somebody else did meanwhile: nobody who sent nothing is taken for one who has the bytes."""
    digest = digest_of(content)
    idle = await store.begin(digest, len(content), "")
    upload = await store.begin(digest, len(content), "")
    etags = [await etag_of(http, part, content) for part in upload.missing]
    assert await store.complete(digest, upload.upload_id, etags[0]) == len(content)
    with pytest.raises((AlreadyThere, PartsMissing)):
        await store.complete(digest, idle.upload_id, "")
    with pytest.raises((AlreadyThere, UnknownUpload, PartsMissing)):
        await store.complete(digest, "0" * 32, "0" * 32)
    assert await store.get(digest, len(content)) == content


async def test_who_was_overtaken_and_has_sent_all_is_told_so_or_believed(
    store: ArtifactStore, http: aiohttp.ClientSession
) -> None:
    one, other = [await store.begin(digest_of(SMALL), len(SMALL), "") for _ in range(2)]
    first, second = [await etag_of(http, upload.missing[0], SMALL) for upload in (one, other)]
    assert await store.complete(digest_of(SMALL), one.upload_id, first) == len(SMALL)
    assert await store.complete(digest_of(SMALL), other.upload_id, second) == len(SMALL)


async def test_ranges_for_the_coordinator_itself(store: ArtifactStore) -> None:
    digest = await store.put(SMALL)
    assert await store.read(digest, 2, 3) == SMALL[2:5]
    assert await store.read(digest, 0, 0) == b""
    assert await store.read(digest, len(SMALL) - 2, 10) == SMALL[-2:]
    assert await store.read(digest, len(SMALL), 10) == b""
    assert await store.read(digest_of(b"absent"), 0, 10) is None


async def test_ranges(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = await store.put(SMALL)
    status, body = await fetch(http, store, digest, Range="bytes=5-8")
    assert (status, body) == (206, SMALL[5:9])


async def test_an_upload_goes_on_where_it_was_cut(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = digest_of(LARGE)
    upload = await store.begin(digest, len(LARGE), "")
    assert [part.number for part in upload.missing] == [1, 2, 3]
    assert await send(http, upload.missing[1], LARGE) == 200
    again = await store.begin(digest, len(LARGE), "", upload.upload_id)
    assert again.upload_id == upload.upload_id
    assert [part.number for part in again.missing] == [1, 3]
    with pytest.raises(PartsMissing):
        await store.complete(digest, upload.upload_id)
    await send_all(http, again, LARGE)
    assert await store.complete(digest, upload.upload_id) == len(LARGE)


async def test_an_upload_that_is_gone_begins_again(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = digest_of(LARGE)
    upload = await store.begin(digest, len(LARGE), "")
    await store.abort(digest, upload.upload_id)
    await store.abort(digest, upload.upload_id)
    with pytest.raises(UnknownUpload):
        await store.complete(digest, upload.upload_id)
    again = await store.begin(digest, len(LARGE), "", upload.upload_id)
    assert again.upload_id != upload.upload_id
    assert len(again.missing) == 3


async def test_wrong_bytes_in_parts_are_refused_and_gone(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = digest_of(LARGE)
    upload = await store.begin(digest, len(LARGE), "")
    await send_all(http, upload, LARGE[:-1] + b"!")
    with pytest.raises(WrongDigest):
        await store.complete(digest, upload.upload_id)
    assert await store.find(digest) is None
    assert await store.get(digest, len(LARGE)) is None


async def test_wrong_bytes_in_one_part_are_refused_and_gone(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = digest_of(SMALL)
    upload = await store.begin(digest, len(SMALL), "")
    await send(http, upload.missing[0], b"other byte")
    with pytest.raises((WrongDigest, PartsMissing)):
        await store.complete(digest, upload.upload_id)
    assert await store.find(digest) is None


async def test_a_part_of_another_size_is_refused(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = digest_of(LARGE)
    upload = await store.begin(digest, len(LARGE), "")
    part = upload.missing[0]
    async with http.put(part.url.url, data=LARGE[: part.size - 1], headers=dict(part.url.headers)) as response:
        assert response.status in (400, 403)
    again = await store.begin(digest, len(LARGE), "", upload.upload_id)
    assert len(again.missing) == 3


async def test_an_upload_is_of_its_digest_alone(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    upload = await store.begin(digest_of(LARGE), len(LARGE), "")
    with pytest.raises(UnknownUpload):
        await store.complete(digest_of(SMALL), upload.upload_id)
    await store.abort(digest_of(SMALL), upload.upload_id)
    again = await store.begin(digest_of(LARGE), len(LARGE), "", upload.upload_id)
    assert again.upload_id == upload.upload_id


@pytest.mark.parametrize("upload_id", ["../../x", "0" * 32, "nonsense", "a/b"])
async def test_upload_ids_that_are_none(store: ArtifactStore, upload_id: str) -> None:
    with pytest.raises(UnknownUpload):
        await store.complete(digest_of(LARGE), upload_id)
    assert (await store.begin(digest_of(LARGE), len(LARGE), "", upload_id)).upload_id != upload_id


async def test_two_that_bring_the_same(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    digest = digest_of(LARGE)
    one, other = [await store.begin(digest, len(LARGE), "") for _ in range(2)]
    await send_all(http, one, LARGE)
    assert await store.complete(digest, one.upload_id) == len(LARGE)
    assert await store.complete(digest, other.upload_id) == len(LARGE)
    assert await store.get(digest, len(LARGE)) == LARGE


async def test_bytes_of_the_coordinators_own(store: ArtifactStore) -> None:
    digest = await store.put(SMALL)
    assert digest == await store.put(SMALL) == digest_of(SMALL)
    assert await store.get(digest, len(SMALL)) == SMALL
    with pytest.raises(TooLarge):
        await store.get(digest, len(SMALL) - 1)
    assert await store.get(digest_of(b"absent"), 100) is None


async def test_objects_in_order_and_their_end(store: ArtifactStore) -> None:
    digests = sorted([await store.put(f"object {n}".encode()) for n in range(7)])
    await store.write_blob("logs/a/1.zst", b"log")
    listed = await store.objects(None, 3)
    listed += await store.objects(listed[-1].digest, 100)
    assert [each.digest for each in listed] == digests
    assert abs(listed[0].modify_time - time.time() * 1e6) < 60e6
    await store.delete(digests[0])
    await store.delete(digests[0])
    assert [each.digest for each in await store.objects(None, 100)] == digests[1:]


async def test_uploads_that_nobody_completed_go(store: ArtifactStore, http: aiohttp.ClientSession) -> None:
    upload = await store.begin(digest_of(LARGE), len(LARGE), "")
    await send(http, upload.missing[0], LARGE)
    assert await store.remove_uploads(0) == 0
    assert await store.remove_uploads(int((time.time() + 60) * 1e6)) == 1
    with pytest.raises(UnknownUpload):
        await store.complete(digest_of(LARGE), upload.upload_id)


async def test_blobs(store: ArtifactStore) -> None:
    assert await store.read_blob("logs/a", 100) is None
    await store.write_blob("logs/a", b"one")
    await store.write_blob("logs/a", b"two")
    assert await store.read_blob("logs/a", 100) == b"two"
    await store.delete_blob("logs/a")
    await store.delete_blob("logs/a")
    assert await store.read_blob("logs/a", 100) is None


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/../b", "", "a/", "A", "a\0"])
async def test_names_of_blobs_that_are_none(store: ArtifactStore, name: str) -> None:
    with pytest.raises(ValueError, match="blob"):
        await store.write_blob(name, b"")


async def test_digests_that_are_none(store: ArtifactStore) -> None:
    for digest in ("sha256:../../../etc/passwd", "sha256:", "md5:" + "0" * 64, "sha256:" + "A" * 64):
        with pytest.raises(ValueError, match="digest"):
            await store.find(digest)


async def test_a_store_that_is_there_answers_whatever_it_holds(store: ArtifactStore) -> None:
    await store.probe()
    await store.write_blob("probe", SMALL)
    await store.probe()


async def test_a_folder_that_is_gone_or_taken_away_does_not_answer(tmp_path: Path) -> None:
    local = LocalArtifactStore(tmp_path / "artifacts", UrlBook(OneKey(), lambda: "", lambda: 0))
    await local.probe()
    (tmp_path / "artifacts").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="No such file"):
        await local.probe()


@pytest.mark.usefixtures("s3_credentials")
async def test_a_bucket_that_is_not_there_and_an_unknown_key_are_no_answer(
    seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, url in (
        (None, seaweed.url().replace("s3://penstock/", "s3://nobody-has-it/")),
        ("of-nobody", seaweed.url()),
        (None, f"s3://penstock?endpoint=http://127.0.0.1:{take_port(0, '')}&region=us-east-1"),
    ):
        if key:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        store = await open_s3_store(url, PART)
        with pytest.raises(Unavailable):
            await store.probe()
        await store.aclose()
