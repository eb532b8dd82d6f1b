"""A small artifact store for the scripted coordinator: real HTTP, kept in memory, and it can misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from aiohttp import web

from penstock.agent.v1 import artifact_service_pb2 as wire
from penstock.agent.v1 import artifact_service_pb2_grpc as rpc


@dataclass
class Upload:
    digest: str
    size: int
    parts: dict[int, bytes] = field(default_factory=dict)


class ArtifactStore(rpc.ArtifactServiceServicer):
    """`part_size`: of uploads. `objects`: what is stored, by digest."""

    def __init__(self, part_size: int = 1 << 20) -> None:
        self.part_size = part_size
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, Upload] = {}
        self.calls: Counter[str] = Counter()
        self.received_bytes = 0
        self.sent_bytes = 0
        self.broken_puts = 0
        """So many of the next PUTs lose their connection in the middle."""
        self.broken_gets = 0
        self.expired_urls = 0
        """So many of the next requests are answered as if their URL were too old."""
        self.spoiled_gets = 0
        """So many of the next answers have a wrong byte."""
        self.away = False
        """Every request is answered 503."""
        self.held = asyncio.Event()
        self.held.set()
        """While it is clear, PUTs and GETs wait when they have begun."""
        self.begun = asyncio.Event()
        self.denied: set[str] = set()
        self.credentials: set[str] = set()
        self._runner: web.AppRunner | None = None
        self._base = ""
        self._number = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 40)
        app.router.add_put("/parts/{upload}/{number}", self._put)
        app.router.add_get("/objects/{digest}", self._get)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.held.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def add(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.objects[digest] = data
        return digest

    # --- the service

    async def BeginUpload(self, request: wire.BeginUploadRequest, context: Any) -> wire.BeginUploadResponse:
        self.calls["begin"] += 1
        self.credentials.add(request.credential)
        if request.digest in self.objects:
            return wire.BeginUploadResponse(present=True)
        upload_id = request.upload_id
        if upload_id not in self.uploads:
            self._number += 1
            upload_id = f"upload-{self._number}"
            self.uploads[upload_id] = Upload(request.digest, request.size_bytes)
        upload = self.uploads[upload_id]
        count = max(-(-upload.size // self.part_size), 1)
        missing = [
            wire.UploadPart(
                number=number + 1,
                offset=number * self.part_size,
                size_bytes=min(self.part_size, upload.size - number * self.part_size),
                url=f"{self._base}/parts/{upload_id}/{number + 1}?signed=%2Fyes",
                headers={"X-Signed": "yes"},
            )
            for number in range(count)
            if number + 1 not in upload.parts
        ]
        return wire.BeginUploadResponse(upload_id=upload_id, part_size_bytes=self.part_size, missing_parts=missing)

    async def CompleteUpload(self, request: wire.CompleteUploadRequest, context: Any) -> wire.CompleteUploadResponse:
        self.calls["complete"] += 1
        upload = self.uploads.pop(request.upload_id, None)
        if upload is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such upload")
        assert upload is not None
        data = b"".join(upload.parts[number] for number in sorted(upload.parts))
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != request.digest:
            await context.abort(grpc.StatusCode.DATA_LOSS, "the bytes have another digest")
        self.objects[request.digest] = data
        return wire.CompleteUploadResponse(size_bytes=len(data))

    async def AbortUpload(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetDownloads(self, request: wire.GetDownloadsRequest, context: Any) -> wire.GetDownloadsResponse:
        self.calls["downloads"] += 1
        answer = wire.GetDownloadsResponse()
        for digest in request.digests:
            if digest in self.denied:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"the run has no artifact {digest}")
            if digest not in self.objects:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"the artifact {digest} was removed")
            url = f"{self._base}/objects/{digest}?signed=%2Fyes"
            answer.downloads.add(
                digest=digest, size_bytes=len(self.objects[digest]), url=url, headers={"X-Signed": "yes"}
            )
        return answer

    # --- HTTP

    async def _put(self, request: web.Request) -> web.Response:
        self._check(request)
        upload = self.uploads[request.match_info["upload"]]
        number = int(request.match_info["number"])
        assert request.headers["Content-Length"] != ""
        data = bytearray()
        broken, self.broken_puts = self.broken_puts > 0, max(self.broken_puts - 1, 0)
        async for piece in request.content.iter_any():
            data += piece
            self.received_bytes += len(piece)
            self.begun.set()
            if not self.held.is_set():
                await self.held.wait()
            if broken:
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
        upload.parts[number] = bytes(data)
        return web.Response(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        data = self.objects[request.match_info["digest"]]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        start, end = (int(found[1]), int(found[2]) + 1) if found else (0, len(data))
        broken, self.broken_gets = self.broken_gets > 0, max(self.broken_gets - 1, 0)
        spoiled, self.spoiled_gets = self.spoiled_gets > 0, max(self.spoiled_gets - 1, 0)
        answer = web.StreamResponse(status=206 if found else 200, headers={"Content-Length": str(end - start)})
        await answer.prepare(request)
        body = data[start:end]
        if spoiled:
            body = bytes([body[0] ^ 1]) + body[1:]
        if broken:
            body = body[: len(body) // 2]
        self.begun.set()
        if not self.held.is_set():
            await self.held.wait()
        await answer.write(body)
        self.sent_bytes += len(body)
        if broken:
            assert request.transport is not None
            request.transport.close()
        return answer

    def _check(self, request: web.Request) -> None:
        assert request.headers["X-Signed"] == "yes"
        assert request.raw_path.endswith("?signed=%2Fyes")
        if self.away:
            raise web.HTTPServiceUnavailable
        if self.expired_urls:
            self.expired_urls -= 1
            raise web.HTTPForbidden(text="the URL is too old")
