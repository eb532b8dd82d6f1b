"""Code bundles on this machine: fetched once by digest, unpacked once, kept while there is room."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from penstock.v1 import bundle_service_pb2 as wire
from penstock.v1.bundle_service_pb2_grpc import BundleServiceStub
from penstock_agent.own_log import OwnLog
from penstock_agent.runtime.archive import BUNDLE, BadArchive, Bounds, unpack
from penstock_agent.runtime.calls import CallLost, lost_when_cancelled

log = OwnLog(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MACHINE = ".machine"
ATTEMPTS = 3
RETRY_AFTER = 0.3
MOST_WAIT = 5.0


class BundleUnavailable(Exception):
    """The coordinator does not have it, or not as its digest says."""


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """Of a bundle, packed and unpacked, and of those that are kept besides what is in use."""

    kept_bytes: int = 2 << 30
    kept: int = 1_000
    packed_bytes: int = 256 << 20
    unpacked: Bounds = BUNDLE


class BundleCache:
    """Folders named by digest below `folder`.

    What was there before the machine was started anew is removed: what is not synced may be torn then.
    """

    def __init__(
        self, folder: Path, limits: BundleLimits, in_use: Callable[[], set[str]], machine_boot_id: str = ""
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._in_use = in_use
        self._sizes: OrderedDict[str, int] = OrderedDict()
        """The least recently used one first."""
        self._paths: dict[str, Path] = {}
        self._fetches: dict[str, asyncio.Task[Path]] = {}
        self._stub: BundleServiceStub | None = None
        self._connected = asyncio.Event()
        self._gone = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._take_stock(machine_boot_id)

    def use(self, stub: BundleServiceStub | None) -> None:
        """Where to fetch from now on; None: nowhere for now."""
        self._stub = stub
        if stub is None:
            self._connected.clear()
        else:
            self._connected.set()

    def path(self, digest: str) -> Path | None:
        """Of the unpacked bundle, if it is here."""
        if digest not in self._sizes:
            return None
        self._sizes.move_to_end(digest)
        path = self._paths.get(digest)
        if path is None:
            path = self._paths[digest] = self._folder / digest
        return path

    async def get(self, digest: str) -> Path:
        """Fetch it if it is not here. Waits while no coordinator is there. Raises `BundleUnavailable`, `BadArchive`."""
        path = self.path(digest)
        if path is not None:
            return path
        fetch = self._fetches.get(digest)
        if fetch is None:
            fetch = self._fetches[digest] = asyncio.get_running_loop().create_task(self._fetch(digest))
            fetch.add_done_callback(lambda _: self._fetches.pop(digest, None))
        return await asyncio.shield(fetch)

    def close(self) -> None:
        for fetch in self._fetches.values():
            fetch.cancel()

    def _take_stock(self, machine_boot_id: str) -> None:
        machine = self._folder.with_suffix(_MACHINE)
        same = machine.exists() and machine.read_text() == machine_boot_id
        found: list[tuple[float, str, int]] = []
        for entry in self._folder.iterdir():
            if same and _DIGEST.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                found.append((entry.stat().st_mtime, entry.name, _size(entry)))
            else:
                _remove(entry)
        machine.write_text(machine_boot_id)
        for _, digest, size in sorted(found):
            self._sizes[digest] = size
        for doomed in self._forget_old(""):
            _remove(doomed)

    async def _fetch(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise BundleUnavailable(f"{digest!r} is no digest of a bundle")
        refusals = 0
        wait = RETRY_AFTER
        while True:
            await self._connected.wait()
            try:
                return await self._fetch_once(digest)
            except BundleUnavailable:
                refusals += 1
                if refusals >= ATTEMPTS:
                    raise
            except (grpc.aio.AioRpcError, CallLost) as error:
                log.warning("bundle_postponed", bundle=digest, reason=_told(error))
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  # spreads agents, guards nothing
            wait = min(wait * 2, MOST_WAIT)

    async def _fetch_once(self, digest: str) -> Path:
        stub = self._stub
        if stub is None:
            raise CallLost
        archive = self._folder / f"{digest}.part"
        unpacked = self._folder / f"{digest}.new"
        try:
            await self._download(stub, digest, archive)
            await asyncio.to_thread(_remove, unpacked)
            size = await asyncio.to_thread(unpack, archive, unpacked, self._limits.unpacked)
            unpacked.rename(self._folder / digest)
        finally:
            await asyncio.to_thread(_remove, archive)
            await asyncio.to_thread(_remove, unpacked)
        self._sizes[digest] = size
        await asyncio.to_thread(_remove_all, self._forget_old(digest))
        return self._folder / digest

    async def _download(self, stub: BundleServiceStub, digest: str, archive: Path) -> None:
        summed = hashlib.sha256()
        size = 0
        call = stub.Get(wire.GetBundleRequest(digest=digest))
        try:
            with archive.open("wb") as file, lost_when_cancelled():
                while (message := await call.read()) is not grpc.aio.EOF:
                    assert isinstance(message, wire.GetBundleResponse)
                    size += len(message.chunk)
                    if size > self._limits.packed_bytes:
                        most = f"{self._limits.packed_bytes:,} bytes of PENSTOCK_AGENT_MAX_BUNDLE_SIZE"
                        raise BadArchive(f"the archive has more than the {most}")
                    summed.update(message.chunk)
                    file.write(message.chunk)
            if await call.code() is not grpc.StatusCode.OK:
                raise await _error_of(call)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise BundleUnavailable(f"the coordinator has no bundle {digest}") from error
            raise
        finally:
            call.cancel()
        if summed.hexdigest() != digest:
            raise BundleUnavailable(f"what came as bundle {digest} has another digest")

    def _forget_old(self, newest: str) -> list[Path]:
        """What is to be removed, so that the rest fits. It has other names already, should it be fetched again."""
        used = self._in_use() | {newest} if newest else set()
        gone: list[Path] = []
        for digest in list(self._sizes):
            if sum(self._sizes.values()) <= self._limits.kept_bytes and len(self._sizes) <= self._limits.kept:
                break
            if digest not in used:
                del self._sizes[digest]
                self._paths.pop(digest, None)
                self._gone += 1
                gone.append((self._folder / digest).rename(self._folder / f"{digest}.{self._gone}.old"))
        return gone


async def _error_of(call: grpc.aio.UnaryStreamCall[wire.GetBundleRequest, wire.GetBundleResponse]) -> Exception:
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def _told(error: grpc.aio.AioRpcError | CallLost) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else "the stream ended"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # Renamed first, so that half a bundle never bears the name of a whole one.
        doomed = path.with_name(f"{path.name}.gone")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        _remove(path)


def _size(folder: Path) -> int:
    total = 0
    for where, _, files in os.walk(folder):
        total += sum(Path(where, file).lstat().st_size for file in files)
    return total
