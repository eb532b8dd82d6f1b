"""What the HTTP side of the local store refuses, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp
import pytest
from aiohttp import web
from tests.waiting import until

from penstock_coordinator.adapters.artifacts.local import LocalArtifactStore
from penstock_coordinator.adapters.artifacts.local_http import LocalArtifactRoutes
from penstock_coordinator.adapters.artifacts.signed_urls import VALID_SECONDS, UrlBook
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.ports.artifacts import Upload, WrongDigest

CONTENT = b"a secret of another run"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
PART = 8


@dataclass
class Rig:
    """A store with one object, and an upload that was begun."""

    root: Path
    base: str = ""
    now: int = 1_800_000_000
    keys: dict[int, bytes] = field(default_factory=lambda: {1: b"one", 2: b"two"})
    away: bool = False
    checks: list[asyncio.Event] = field(default_factory=list)
    """Each holds up one check of a signature, the first one that comes."""
    store: LocalArtifactStore = field(init=False)
    upload: Upload = field(init=False)
    routes: LocalArtifactRoutes = field(init=False)
    download: str = ""

    def sign(self, content: bytes) -> tuple[int, str]:
        return 2, hmac.digest(self.keys[2], content, "sha256").hex()

    async def verify(self, number: int, content: bytes, signature: str) -> bool:
        if self.away:
            raise Unavailable("keys")
        if self.checks:
            await self.checks.pop(0).wait()
        made = hmac.digest(self.keys.get(number, b"none"), content, "sha256").hex()
        return number in self.keys and hmac.compare_digest(made, signature)

    def files(self) -> dict[str, bytes]:
        """All that is on the disk."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    @property
    def put(self) -> str:
        return self.upload.missing[0].url.url


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "artifacts")
    urls = UrlBook(rig, lambda: rig.base, lambda: rig.now)
    rig.store = LocalArtifactStore(rig.root, urls, PART)
    application = web.Application()
    rig.routes = LocalArtifactRoutes(rig.store, urls)
    application.add_routes(rig.routes.routes())
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rig.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    await rig.store.put(CONTENT)
    rig.download = (await rig.store.sign_download(DIGEST)).url
    rig.upload = await rig.store.begin("sha256:" + OTHER, 20, "")
    yield rig
    await runner.cleanup()


def changed(url: str, **query: object) -> str:
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query)) | {name: str(value) for name, value in query.items()}
    return urlunsplit(parts._replace(query=urlencode({name: value for name, value in given.items() if value != ""})))


def moved(url: str, old: str, new: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.replace(old, new)))


def flipped(url: str) -> str:
    signature = dict(parse_qsl(urlsplit(url).query))["signature"]
    return changed(url, signature=("0" if signature[0] != "0" else "1") + signature[1:])


def expires(url: str) -> int:
    return int(dict(parse_qsl(urlsplit(url).query))["expires"])


Make = Callable[[Rig], str]
HOSTILE: dict[str, tuple[str, Make]] = {
    "no signature": ("GET", lambda rig: changed(rig.download, signature="")),
    "a changed signature": ("GET", lambda rig: flipped(rig.download)),
    "a signature in upper case": (
        "GET",
        lambda rig: rig.download.replace("signature=", "signature=A"),
    ),
    "a later end": ("GET", lambda rig: changed(rig.download, expires=expires(rig.download) + 1)),
    "an end written otherwise": ("GET", lambda rig: changed(rig.download, expires=f"0{expires(rig.download)}")),
    "an end that is no number": ("GET", lambda rig: changed(rig.download, expires="never")),
    "no end": ("GET", lambda rig: changed(rig.download, expires="")),
    "another key": ("GET", lambda rig: changed(rig.download, key=1)),
    "a key that is not there": ("GET", lambda rig: changed(rig.download, key=99)),
    "a key that is no number": ("GET", lambda rig: changed(rig.download, key="-1")),
    "another digest": ("GET", lambda rig: moved(rig.download, DIGEST[7:], OTHER)),
    "a digest in upper case": ("GET", lambda rig: moved(rig.download, DIGEST[7:], DIGEST[7:].upper())),
    "a path outside": ("GET", lambda rig: moved(rig.download, DIGEST[7:], "..%2F..%2F..%2Fetc%2Fpasswd")),
    "a PUT's URL for a GET": ("GET", lambda rig: moved(rig.put, f"/{rig.upload.upload_id}/1", "")),
    "a GET's URL for a PUT": (
        "PUT",
        lambda rig: moved(rig.download, DIGEST[7:], f"{DIGEST[7:]}/{rig.upload.upload_id}/1"),
    ),
    "another part": ("PUT", lambda rig: moved(rig.put, "/1", "/2")),
    "a part that is not there": ("PUT", lambda rig: moved(rig.put, "/1", "/99")),
    "part zero": ("PUT", lambda rig: moved(rig.put, "/1", "/0")),
    "another size": ("PUT", lambda rig: changed(rig.put, size=PART - 1)),
    "a huge size": ("PUT", lambda rig: changed(rig.put, size=10**17)),
    "another upload": ("PUT", lambda rig: moved(rig.put, rig.upload.upload_id, "0" * 32)),
    "an upload outside": ("PUT", lambda rig: moved(rig.put, rig.upload.upload_id, "..%2F..%2Fblobs")),
    "the digest of another upload": ("PUT", lambda rig: moved(rig.put, OTHER, DIGEST[7:])),
    "a changed signature of a PUT": ("PUT", lambda rig: flipped(rig.put)),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_urls_that_nobody_signed_are_refused_and_leave_nothing(rig: Rig, case: str) -> None:
    method, make = HOSTILE[case]
    before = rig.files()
    async with aiohttp.ClientSession() as http:
        body = b"x" * PART if method == "PUT" else None
        async with http.request(method, make(rig), data=body) as response:
            text = await response.text()
            assert response.status in (403, 404), text
            assert "ask for" in text or response.status == 404
            assert CONTENT.decode() not in text
    assert rig.files() == before


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_urls_expire(rig: Rig, method: str) -> None:
    before = rig.files()
    url = rig.put if method == "PUT" else rig.download
    rig.now += VALID_SECONDS + 1
    async with aiohttp.ClientSession() as http, http.request(method, url, data=b"x" * PART) as response:
        assert (response.status, await response.text()) == (403, "the URL has expired: ask for another one")
    assert rig.files() == before


async def test_keys_that_cannot_be_read_are_no_refusal(rig: Rig) -> None:
    rig.away = True
    async with aiohttp.ClientSession() as http, http.get(rig.download) as response:
        assert response.status == 503


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "PUT"])
async def test_other_methods_on_a_download(rig: Rig, method: str) -> None:
    async with aiohttp.ClientSession() as http, http.request(method, rig.download, data=b"") as response:
        assert response.status == 405


@pytest.mark.parametrize("body", [b"", b"x" * (PART - 1), b"x" * (PART + 1)], ids=["empty", "too short", "too long"])
async def test_a_body_of_another_size_is_refused(rig: Rig, body: bytes) -> None:
    before = rig.files()
    async with aiohttp.ClientSession() as http, http.put(rig.put, data=body) as response:
        assert response.status == 400
        assert f"{PART} bytes" in (await response.json())["message"]
    assert rig.files() == before


async def test_a_body_without_a_size_is_refused(rig: Rig) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * PART

    async with aiohttp.ClientSession() as http, http.put(rig.put, data=chunks()) as response:
        assert response.status == 400


async def test_a_truncated_upload_does_not_count(rig: Rig) -> None:
    """The connection ends in the middle of a part: the part is still missing, and can be sent."""
    parts = urlsplit(rig.put)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {PART}\r\n\r\n"
    writer.write(head.encode() + b"x" * (PART - 1))
    writer.write_eof()
    await reader.read()
    writer.close()
    again = await rig.store.begin("sha256:" + OTHER, 20, "", rig.upload.upload_id)
    assert [part.number for part in again.missing] == [1, 2, 3]
    async with aiohttp.ClientSession() as http, http.put(rig.put, data=b"x" * PART) as response:
        assert response.status == 200


async def test_bytes_of_another_digest_leave_nothing(rig: Rig) -> None:
    before = {name for name in rig.files() if name.startswith("sha256/")}
    async with aiohttp.ClientSession() as http:
        for part in rig.upload.missing:
            async with http.put(part.url.url, data=b"x" * part.size) as response:
                assert response.status == 200
    with pytest.raises(WrongDigest):
        await rig.store.complete("sha256:" + OTHER, rig.upload.upload_id)
    assert set(rig.files()) == before
    async with aiohttp.ClientSession() as http, http.put(rig.put, data=b"x" * PART) as response:
        assert response.status == 404


async def test_what_is_there_is_not_written_again(rig: Rig) -> None:
    """Somebody may be reading it to make its digest."""
    async with aiohttp.ClientSession() as http:
        for content in (b"a", b"b"):
            async with http.put(rig.put, data=content * PART) as response:
                assert response.status == 200
    assert rig.files()[f"uploads/{rig.upload.upload_id}/data"] == b"a" * PART


async def put_begun(rig: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A PUT of the part that the server has begun with, and that has sent no byte of its body."""
    parts = urlsplit(rig.put)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {PART}\r\n\r\n"
    )
    writer.write(head.encode())
    assert b"100" in await reader.readline()
    await reader.readline()
    return reader, writer


async def test_the_newer_of_two_connections_counts(rig: Rig) -> None:
    """The older one is cut off without anybody having noticed yet: it must not be waited for, nor write any more."""
    reader, writer = await put_begun(rig)
    async with aiohttp.ClientSession() as http, http.put(rig.put, data=b"b" * PART) as response:
        assert response.status == 200
    writer.write(b"a" * PART)
    answer = await reader.readline()
    assert b"409" in answer or b"200" in answer
    writer.close()
    assert rig.files()[f"uploads/{rig.upload.upload_id}/data"] == b"b" * PART


async def test_the_newer_of_two_connections_counts_also_when_the_older_one_is_slower_to_be_let_in(rig: Rig) -> None:
    let_in = asyncio.Event()
    rig.checks.append(let_in)
    older, to_older = await put_begun(rig)

    async def older_is_held_up() -> bool:
        return not rig.checks

    async def newer_is_under_way() -> bool:
        return bool(rig.routes._writing)

    await until(older_is_held_up)
    newer, to_newer = await put_begun(rig)
    await until(newer_is_under_way)
    to_older.write(b"a" * PART)
    let_in.set()
    assert b"409" in await asyncio.wait_for(older.readline(), 60.0)
    to_newer.write(b"b" * PART)
    assert b"200" in await asyncio.wait_for(newer.readline(), 60.0)
    for writer in (to_older, to_newer):
        writer.close()
    assert rig.files()[f"uploads/{rig.upload.upload_id}/data"] == b"b" * PART


async def test_what_was_removed_is_told_so(rig: Rig) -> None:
    await rig.store.delete(DIGEST)
    async with aiohttp.ClientSession() as http, http.get(rig.download) as response:
        assert (response.status, (await response.json())["message"]) == (404, "the artifact was removed")
