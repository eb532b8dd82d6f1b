"""What the same bytes take without Penstock: curl and sha256sum against a store on a disk, aioboto3 against S3."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import tempfile
import time
from pathlib import Path
from typing import IO, cast

from aiohttp import web

from penstock_coordinator.adapters.artifacts.opening import open_store

ONE_PART = 1 << 40


async def curl_seconds(file: Path) -> float:
    """sha256sum of the file, its upload by curl in one part, and a download by curl with sha256sum beside it."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", dir=file.parent) as name:
        folder = Path(name)
        opened = await open_store(folder.joinpath("store").as_uri(), folder, ONE_PART)
        opened.sign_with(_Signer())
        application = web.Application(client_max_size=0)
        application.add_routes(opened.routes)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            opened.reached_at("", f"127.0.0.1:{runner.addresses[0][1]}")
            began = time.perf_counter()
            digest = "sha256:" + (await _sh(f"sha256sum '{file}'")).split()[0]
            upload = await opened.store.begin(digest, _size_of(file), "")
            await _sh(f"curl -sSf -T '{file}' {_headers(upload.missing[0].url.headers)} '{upload.missing[0].url.url}'")
            paused = time.perf_counter()
            await opened.store.complete(digest, upload.upload_id)
            resumed = time.perf_counter()
            url = await opened.store.sign_download(digest)
            fetched = await _sh(f"curl -sSf {_headers(url.headers)} '{url.url}' | tee '{folder}/copy' | sha256sum")
            assert fetched.split()[0] == digest.removeprefix("sha256:")
            return time.perf_counter() - began - (resumed - paused)
        finally:
            await runner.cleanup()


async def aioboto3_seconds(file: Path, endpoint: str, bucket: str) -> float:
    """A managed upload with the digest taken beside it, and a managed download whose digest is taken as it comes."""
    import aioboto3

    copy = file.with_suffix(".copy")
    async with aioboto3.Session().client("s3", endpoint_url=endpoint, region_name="us-east-1") as client:
        began = time.perf_counter()
        sent, _ = await asyncio.gather(
            asyncio.to_thread(_digest_of, file), client.upload_file(str(file), bucket, "reference")
        )
        with copy.open("wb") as target:
            summing = _Summing(target)
            await client.download_fileobj(bucket, "reference", cast("IO[bytes]", summing))
        seconds = time.perf_counter() - began
        assert summing.digest == sent
        await client.delete_object(Bucket=bucket, Key="reference")
    copy.unlink()
    return seconds


class _Summing:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._sum.update(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()


class _Signer:
    def sign(self, content: bytes) -> tuple[int, str]:
        return 1, hmac.digest(b"bench", content, "sha256").hex()

    async def verify(self, number: int, content: bytes, signature: str) -> bool:
        return number == 1 and hmac.compare_digest(self.sign(content)[1], signature)


def _size_of(file: Path) -> int:
    return file.stat().st_size


def _digest_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _headers(headers: tuple[tuple[str, str], ...]) -> str:
    return " ".join(f"-H '{name}: {value}'" for name, value in headers)


async def _sh(script: str) -> str:
    process = await asyncio.create_subprocess_shell(script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{script}: exit code {process.returncode}")
    return out.decode()
