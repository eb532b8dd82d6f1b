"""The HTTP side of the local store: PUT of a part, GET of a whole or of ranges, each by a signed URL.

Memory per request is a chunk, whatever the size. Answers are JSON with a `message` where something is wrong.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from typing import TYPE_CHECKING

from aiohttp import web

from penstock_coordinator.adapters.artifacts.local import CHUNK_BYTES, LocalArtifactStore, LocalUpload
from penstock_coordinator.adapters.artifacts.signed_urls import PREFIX, BadUrl, Grant, UrlBook
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.ports.artifacts import UnknownUpload

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT_SECONDS = 60.0
"""A sender that sends nothing for so long has gone."""
_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment", "Cache-Control": "private"}


class _Superseded(Exception):
    """The same part is being sent again, by whoever lost this connection."""


class _Writing:
    """One PUT on its way to the disk."""

    def __init__(self, arrival: int) -> None:
        self.arrival = arrival
        """Of the request: of two, the greater one is the newer."""
        self.over = False
        self.turn = asyncio.Lock()


class LocalArtifactRoutes:
    def __init__(self, store: LocalArtifactStore, urls: UrlBook) -> None:
        self._store = store
        self._urls = urls
        self._writing: dict[tuple[str, int], _Writing] = {}
        self._arrivals = itertools.count(1)

    def routes(self) -> Sequence[web.RouteDef]:
        return (
            web.get(f"{PREFIX}/{{hex}}", self.download),
            web.put(f"{PREFIX}/{{hex}}/{{upload}}/{{part}}", self.upload),
        )

    async def download(self, request: web.Request) -> web.StreamResponse:
        """HEAD too, by the same URL."""
        grant = await self._allowed(request, "GET")
        path = self._store.path_of(grant.digest)
        if not await asyncio.to_thread(path.is_file):
            return _refused(404, "the artifact was removed")
        tag = {"ETag": f'"{grant.digest[7:]}"', "Content-Type": "application/octet-stream"}
        return web.FileResponse(path, chunk_size=CHUNK_BYTES, headers={**_HEADERS, **tag})

    async def upload(self, request: web.Request) -> web.Response:
        """One part, of exactly the size that was signed. The same part again replaces nothing, if it is there."""
        mine = _Writing(next(self._arrivals))  # before anything that an older request may be longer at
        grant = await self._allowed(request, "PUT")
        if request.content_length != grant.size:
            return _refused(400, f"this URL is for {grant.size} bytes: send them with a Content-Length")
        try:
            upload = await asyncio.to_thread(self._store.upload_of, grant)
            if not upload.has_part(grant.part):
                return _refused(404, "the upload has no such part")
            await self._receive(request, upload, grant, mine)
        except (UnknownUpload, FileNotFoundError):
            return _refused(404, "there is no such upload any more: begin it again")
        except _Superseded:
            return _refused(409, "the same part is being sent on another connection")
        except TimeoutError:
            return _refused(408, f"nothing came for {SILENT_SECONDS:g} s")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return _refused(507 if full else 503, f"the store's disk: {os.strerror(error.errno or 0)}")
        return web.Response(headers={"ETag": f'"{grant.part}"'})

    async def _allowed(self, request: web.Request, method: str) -> Grant:
        try:
            return await self._urls.check(method, request.match_info, request.query)
        except BadUrl as error:
            raise web.HTTPForbidden(text=str(error)) from None
        except Unavailable:
            raise web.HTTPServiceUnavailable(text="the keys cannot be read: try again") from None

    async def _receive(self, request: web.Request, upload: LocalUpload, grant: Grant, mine: _Writing) -> None:
        """Of two connections with the same part the newer one counts: the older one is most likely cut. What is there
        is not written again, since somebody may be reading it to make its digest."""
        key = (grant.upload_id, grant.part)
        former = self._writing.get(key)
        if former is not None and former.arrival > mine.arrival:
            raise _Superseded
        self._writing[key] = mine
        try:
            if former is not None:
                former.over = True
                async with former.turn:
                    pass  # what it was writing is written
            place = await asyncio.to_thread(upload.part, grant.part)
            if place is None:
                await _discard(request)
            else:
                await self._write(request, upload, grant, place[0], mine)
        finally:
            if self._writing.get(key) is mine:
                del self._writing[key]

    async def _write(
        self, request: web.Request, upload: LocalUpload, grant: Grant, offset: int, mine: _Writing
    ) -> None:
        """Part by part of memory. A body that ends early raises: nothing is counted then."""
        descriptor = await asyncio.to_thread(os.open, upload.data, os.O_WRONLY)
        try:
            left = grant.size
            while left:
                chunk = await asyncio.wait_for(_next(request, min(left, CHUNK_BYTES)), SILENT_SECONDS)
                async with mine.turn:
                    if mine.over:
                        raise _Superseded
                    await asyncio.to_thread(_write_all, descriptor, chunk, offset)
                offset += len(chunk)
                left -= len(chunk)
            async with mine.turn:
                if mine.over:
                    raise _Superseded
                await asyncio.to_thread(upload.mark, grant.part)
        finally:
            os.close(descriptor)


async def _next(request: web.Request, size: int) -> bytes:
    """The next bytes, `size` of them."""
    try:
        return await request.content.readexactly(size)
    except asyncio.IncompleteReadError:
        raise web.HTTPBadRequest(text="the body ended early: send the part again") from None


def _write_all(descriptor: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


async def _discard(request: web.Request) -> None:
    async for _ in request.content.iter_chunked(CHUNK_BYTES):
        pass


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
