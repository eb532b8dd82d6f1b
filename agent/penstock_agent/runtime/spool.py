"""Results that wait for their acknowledgement, in a file that survives the agent.

Append-only: records of (length, CRC-32, kind, payload). A result is written when it has waited for a while; one
`fdatasync` serves all that came together, and it runs in a thread. An acknowledgement adds a record that is not
waited for: a result that is sent once too often is recognised. A torn end, as a crash leaves it, is cut off.
"""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock_agent.own_log import OwnLog

log = OwnLog(__name__)

_HEADER = struct.Struct(">IIB")
_STAMP = struct.Struct(">Q36s")
RESULT, GONE = 1, 2
RESULT_ID_BYTES = 16
LARGEST_RECORD = 4 * 1024 * 1024
COMPACT_FROM = 1024 * 1024
RETRY_AFTER = 1.0


@dataclass(frozen=True, slots=True)
class Spooled:
    """`ended_at` is an instant of the lease clock, or None if the machine was started anew since."""

    result_id: bytes
    ended_at: int | None
    payload: bytes


class Spool:
    """One writer at a time: the agent that holds the data folder's lock."""

    def __init__(self, path: Path, machine_boot_id: str) -> None:
        self._path = path
        self._machine = machine_boot_id.encode().ljust(36)[:36]
        self._live: dict[bytes, bytes] = {}
        self._dead_bytes = 0
        self._pending: list[bytes] = []
        self._flushing: asyncio.Task[None] | None = None
        self.failing = False
        """The last attempt to write has failed; it is made again and again."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def load(self) -> list[Spooled]:
        """What earlier processes left; called once, before anything else."""
        data = self._path.read_bytes()
        end = 0
        for kind, payload, record_end in _records(data):
            end = record_end
            result_id = payload[:RESULT_ID_BYTES]
            if kind == RESULT:
                self._live[result_id] = _record(RESULT, payload)
            else:
                self._live.pop(result_id, None)
        if end < len(data):
            log.warning("spool_torn", bytes_cut_off=len(data) - end)
        self._rewrite(self._live)
        return [self._spooled(record[_HEADER.size :]) for record in self._live.values()]

    def add(self, result_id: bytes, ended_at: int, payload: bytes) -> None:
        stamp = _STAMP.pack(ended_at, self._machine)
        self._live[result_id] = _record(RESULT, result_id + stamp + payload)
        self._write(self._live[result_id])

    def remove(self, result_id: bytes) -> None:
        record = self._live.pop(result_id, None)
        if record is not None:
            self._dead_bytes += len(record)
            self._write(_record(GONE, result_id))

    @property
    def depth(self) -> int:
        return len(self._live)

    @property
    def size(self) -> int:
        """Bytes of the file, with those of results that were acknowledged and are not cut off yet."""
        return self._path.stat().st_size

    async def settle(self) -> None:
        """Until everything is written."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, record: bytes) -> None:
        self._pending.append(record)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._pending:
                pending, self._pending = self._pending, []
                compact = dict(self._live) if self._is_mostly_dead() else None
                try:
                    await asyncio.to_thread(self._append, pending, compact)
                    self.failing = False
                except OSError as error:
                    self.failing = True
                    log.error(
                        "spool_not_written", reason=str(error), effect="results are in memory alone, no work is taken"
                    )
                    self._pending = pending + self._pending
                    await asyncio.sleep(RETRY_AFTER)
        finally:
            self._flushing = None

    def _is_mostly_dead(self) -> bool:
        live = sum(map(len, self._live.values())) if self._dead_bytes >= COMPACT_FROM else 0
        compact = not self._live or (self._dead_bytes >= COMPACT_FROM and self._dead_bytes > live)
        if compact:
            self._dead_bytes = 0
        return compact

    def _append(self, records: list[bytes], compact: dict[bytes, bytes] | None) -> None:
        if compact is not None:
            self._rewrite(compact)
            return
        start = os.fstat(self._fd).st_size
        try:
            os.pwrite(self._fd, b"".join(records), start)
            os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, start)
            raise

    def _rewrite(self, live: dict[bytes, bytes]) -> None:
        if not live:
            os.ftruncate(self._fd, 0)
            return
        fresh = self._path.with_suffix(".new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, b"".join(live.values()), 0)
            os.fsync(fd)
            fresh.replace(self._path)
        except OSError:
            os.close(fd)
            raise
        old, self._fd = self._fd, fd
        os.close(old)
        _sync_folder(self._path.parent)

    def _spooled(self, payload: bytes) -> Spooled:
        ended_at, machine = _STAMP.unpack_from(payload, RESULT_ID_BYTES)
        return Spooled(
            result_id=payload[:RESULT_ID_BYTES],
            ended_at=ended_at if machine == self._machine else None,
            payload=payload[RESULT_ID_BYTES + _STAMP.size :],
        )


def _record(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(len(payload), zlib.crc32(payload, kind), kind) + payload


def _records(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(kind, payload, where the record ends), up to the first that is not whole."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, checksum, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        payload = data[at + _HEADER.size : end]
        if length > LARGEST_RECORD or end > len(data) or zlib.crc32(payload, kind) != checksum:
            return
        yield kind, payload, end
        at = end


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
