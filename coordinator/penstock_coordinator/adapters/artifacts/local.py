"""The store on a disk of the coordinator's own: one file per digest.

    sha256/ab/cd/<hex>              what is whole: it came by a rename, and is never written again
    uploads/<id>/about.json         what is to come, and in parts of which size
    uploads/<id>/data, parts        the bytes, each part at its place; a byte per part: 1, it is there
    blobs/<name>                    what the coordinator keeps for itself

One process works on the folder, which the lock of the data folder sees to. After a power cut a part may be counted
that is not there: then the digest is wrong, and the upload begins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import heapq
import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from penstock_coordinator.adapters.artifacts.signed_urls import Grant, UrlBook
from penstock_coordinator.ports import Dependency, DependencyState, Unavailable
from penstock_coordinator.ports.artifacts import (
    PARTS_PAGE,
    AlreadyThere,
    Digest,
    PartsMissing,
    PartUrl,
    SignedUrl,
    StoredObject,
    TooLarge,
    UnknownUpload,
    Upload,
    WrongDigest,
    checked_name,
    hex_of,
    part_size_of,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")
PART_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


class LocalArtifactStore:
    """`urls` makes those that this store's HTTP side serves (see `local_http`)."""

    def __init__(self, root: Path, urls: UrlBook, part_bytes: int = PART_BYTES) -> None:
        """Makes the folder. Raises `OSError`."""
        self._objects = root / "sha256"
        self._uploads = root / "uploads"
        self._blobs = root / "blobs"
        self._urls = urls
        self._part_bytes = part_bytes
        self._completing: dict[str, asyncio.Lock] = {}
        self._probing: asyncio.Future[None] | None = None
        for folder in (self._objects, self._uploads, self._blobs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    # --- uploads

    async def find(self, digest: Digest) -> StoredObject | None:
        return await _away(lambda: self._find(digest))

    def _find(self, digest: Digest) -> StoredObject | None:
        with contextlib.suppress(FileNotFoundError):
            found = self.path_of(digest).stat()
            return StoredObject(digest, found.st_size, found.st_mtime_ns // 1_000)
        return None

    async def begin(self, digest: Digest, size: int, media_type: str, upload_id: str = "") -> Upload:
        return await _away(lambda: self._begin(digest, size, upload_id))

    def _begin(self, digest: Digest, size: int, upload_id: str) -> Upload:
        part_size = part_size_of(size, self._part_bytes)
        about: dict[str, int | str] = {"digest": digest, "size": size, "part_size": part_size}
        there = LocalUpload.open(self._uploads, upload_id) if upload_id else None
        if there is None or there.about != about:
            there = LocalUpload.create(self._uploads, about)
        missing = there.missing()[:PARTS_PAGE]
        return Upload(there.upload_id, part_size, tuple(self._part_url(there, *part) for part in missing))

    def _part_url(self, upload: LocalUpload, number: int, offset: int, size: int) -> PartUrl:
        grant = Grant("PUT", str(upload.about["digest"]), upload.upload_id, number, size)
        return PartUrl(number, offset, size, self._urls.make(grant))

    def upload_of(self, grant: Grant) -> LocalUpload:
        """The one that the URL is for. Raises `UnknownUpload`, `OSError`."""
        upload = LocalUpload.open(self._uploads, grant.upload_id)
        if upload is None or upload.about["digest"] != grant.digest:
            raise UnknownUpload
        return upload

    async def complete(self, digest: Digest, upload_id: str, etag: str | None = None) -> int:
        lock = self._completing.setdefault(digest, asyncio.Lock())
        try:
            async with lock:
                return await _away(lambda: self._complete(digest, upload_id, own=etag is not None))
        finally:
            if not lock.locked():
                self._completing.pop(digest, None)

    def _complete(self, digest: Digest, upload_id: str, *, own: bool) -> int:
        upload = LocalUpload.open(self._uploads, upload_id)
        if upload is not None and upload.about["digest"] != digest:
            raise UnknownUpload
        there = self._find(digest)
        if there is not None and not own:
            if upload is not None:
                upload.remove()
            return there.size
        if upload is None:
            raise UnknownUpload if there is None else AlreadyThere
        if upload.missing():
            raise PartsMissing
        if _digest_of(upload.data) != digest:
            upload.remove()
            raise WrongDigest
        size = upload.data.stat().st_size
        if there is None:
            self._publish(upload.data, self.path_of(digest))
        upload.remove()
        return size

    def _publish(self, file: Path, place: Path) -> None:
        """Under its name whole and durable, or not at all."""
        _sync(file)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.replace(place)
        for folder in (place.parent, place.parent.parent, place.parent.parent.parent):
            _sync(folder)

    async def abort(self, digest: Digest, upload_id: str) -> None:
        await _away(lambda: self._abort(digest, upload_id))

    def _abort(self, digest: Digest, upload_id: str) -> None:
        upload = LocalUpload.open(self._uploads, upload_id)
        if upload is not None and upload.about["digest"] == digest:
            upload.remove()

    async def remove_uploads(self, before: int) -> int:
        return await _away(lambda: self._remove_uploads(before))

    def _remove_uploads(self, before: int) -> int:
        old = [each for each in self._uploads.iterdir() if each.stat().st_mtime_ns // 1_000 < before]
        for each in old:
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink(missing_ok=True)  # a coordinator was killed while it wrote
        return len(old)

    # --- bytes

    def path_of(self, digest: Digest) -> Path:
        """Where it is, if it is there."""
        name = hex_of(digest)
        return self._objects / name[:2] / name[2:4] / name

    async def sign_download(self, digest: Digest) -> SignedUrl:
        return self._urls.make(Grant("GET", digest))

    async def get(self, digest: Digest, limit: int) -> bytes | None:
        return await _away(lambda: _read(self.path_of(digest), limit))

    async def read(self, digest: Digest, offset: int, size: int) -> bytes | None:
        return await _away(lambda: _read_range(self.path_of(digest), offset, size))

    async def put(self, content: bytes, media_type: str = "application/octet-stream") -> Digest:
        return await _away(lambda: self._put(content))

    def _put(self, content: bytes) -> Digest:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        place = self.path_of(digest)
        if place.exists():
            os.utime(place)
        else:
            self._write(content, place)
        return digest

    def _write(self, content: bytes, place: Path) -> None:
        fresh = self._uploads / f"{uuid.uuid4().hex}.new"
        try:
            fresh.write_bytes(content)
            self._publish(fresh, place)
        finally:
            fresh.unlink(missing_ok=True)

    async def objects(self, after: Digest | None, limit: int) -> list[StoredObject]:
        return await _away(lambda: self._list("" if after is None else hex_of(after), limit))

    def _list(self, after: str, limit: int) -> list[StoredObject]:
        """Folders are in the order of the digests, so what is below is passed over by folder."""
        found: list[StoredObject] = []
        for first in _names(self._objects, after[:2]):
            for second in _names(self._objects / first, after[2:4] if first == after[:2] else ""):
                for name in _names(self._objects / first / second, ""):
                    stored = self._find("sha256:" + name) if name > after else None
                    if stored is not None:
                        found.append(stored)
                    if len(found) == limit:
                        return found
        return found

    async def delete(self, digest: Digest) -> None:
        await _away(lambda: self.path_of(digest).unlink(missing_ok=True))

    async def write_blob(self, name: str, content: bytes) -> None:
        place = self._blobs / checked_name(name)
        await _away(lambda: self._write(content, place))

    async def read_blob(self, name: str, limit: int) -> bytes | None:
        place = self._blobs / checked_name(name)
        return await _away(lambda: _read(place, limit))

    async def delete_blob(self, name: str) -> None:
        place = self._blobs / checked_name(name)
        await _away(lambda: self._delete_blob(place))

    def _delete_blob(self, place: Path) -> None:
        place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if place.parent != self._blobs:
                place.parent.rmdir()  # if it was the last one

    async def probe(self) -> None:
        """Its folders are there and may be written to. A disk that does not answer holds one thread and no more."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(_away(self._look))
            self._probing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._probing)

    def _look(self) -> None:
        for folder in (self._objects, self._uploads):
            folder.stat()
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "neither read nor written")

    def dependency(self) -> Dependency:
        return Dependency("artifacts", DependencyState.CLOSED)

    async def aclose(self) -> None:
        """Nothing is held."""


class LocalUpload:
    """The folder of one upload."""

    def __init__(self, folder: Path, about: dict[str, int | str]) -> None:
        self._folder = folder
        self.about = about
        self.data = folder / "data"
        self._parts = parts_of(int(about["size"]), int(about["part_size"]))

    @property
    def upload_id(self) -> str:
        return self._folder.name

    @classmethod
    def open(cls, uploads: Path, upload_id: str) -> LocalUpload | None:
        if _UPLOAD_ID.fullmatch(upload_id) is None:
            return None
        folder = uploads / upload_id
        try:
            return cls(folder, json.loads((folder / "about.json").read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None

    @classmethod
    def create(cls, uploads: Path, about: dict[str, int | str]) -> LocalUpload:
        folder = uploads / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        upload = cls(folder, about)
        try:
            upload.data.touch(mode=0o600)
            (folder / "parts").write_bytes(bytes(len(upload._parts)))
            (folder / "about.json").write_text(json.dumps(about))
        except OSError:  # a full disk: nobody has its id, so each try would leave another one
            upload.remove()
            raise
        return upload

    def missing(self) -> list[tuple[int, int, int]]:
        """(number, offset, size)"""
        there = (self._folder / "parts").read_bytes()
        return [part for part, done in zip(self._parts, there, strict=True) if not done]

    def part(self, number: int) -> tuple[int, int] | None:
        """Its offset and size; None: it is there, or there is none such."""
        return next(((offset, size) for each, offset, size in self.missing() if each == number), None)

    def has_part(self, number: int) -> bool:
        return 1 <= number <= len(self._parts)

    def mark(self, number: int) -> None:
        """The part is there."""
        with (self._folder / "parts").open("r+b") as marks:
            marks.seek(number - 1)
            marks.write(b"\1")
        os.utime(self._folder)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _names(folder: Path, start: str) -> Iterator[str]:
    """Of what is in the folder, in order, from `start` on."""
    try:
        names = [each.name for each in folder.iterdir() if each.name >= start]
    except (FileNotFoundError, NotADirectoryError):
        return
    heapq.heapify(names)
    while names:
        yield heapq.heappop(names)


def _read(file: Path, limit: int) -> bytes | None:
    try:
        with file.open("rb") as content:
            found = content.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(found) > limit:
        raise TooLarge
    return found


def _read_range(file: Path, offset: int, size: int) -> bytes | None:
    with contextlib.suppress(FileNotFoundError), file.open("rb") as content:
        return os.pread(content.fileno(), size, offset)
    return None


def _digest_of(file: Path) -> Digest:
    with file.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _away(work: Callable[[], _T]) -> _T:
    """In a thread. The disk's refusals are `Unavailable`."""
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise Unavailable(f"artifacts: {os.strerror(error.errno or 0)}") from error
