"""How lines are laid down: of one row, and of the many rows of a pack.

A row is compressed by itself, so that it is written at once; a pack is compressed as a whole, which takes a fraction of
the room. All functions are quick enough for the event loop with a row, and belong into a thread with a pack.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from penstock_coordinator.ports import LogChunk, LogFilter, LogLine, LogPack, LogPart, RunId, StoredLines

ROW_COMPRESSION = 1
"""The quickest: log lines repeat themselves so much that more effort gains little."""
PACK_COMPRESSION = 3
FORM = 1
"""Of packs."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[int, int, int, bytes]]).decode


class _Row(msgspec.Struct, array_like=True, frozen=True):
    position: int
    step: int
    item: int
    attempt: int
    at: int
    lines: bytes


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    form: int
    rows: list[_Row]


_decode_pack = msgspec.msgpack.Decoder(_Packed).decode


class BrokenPack(Exception):
    """These are not the bytes that were put there."""


def pack_lines(lines: Sequence[LogLine]) -> bytes:
    rows = [(x.source, x.number, x.offset, x.text.encode("utf-8", "surrogatepass")) for x in lines]
    return zlib.compress(_encode(rows), ROW_COMPRESSION)


def unpack_lines(packed: bytes) -> tuple[LogLine, ...]:
    return _lines(zlib.decompress(packed))


def _lines(encoded: bytes) -> tuple[LogLine, ...]:
    return tuple(LogLine(s, n, o, text.decode("utf-8", "surrogatepass")) for s, n, o, text in _decode(encoded))


@dataclass(frozen=True, slots=True)
class MadePack:
    """`taken` of the rows are in it."""

    pack: LogPack
    parts: tuple[LogPart, ...]
    content: bytes


def make_pack(run_id: RunId, name: str, rows: Sequence[StoredLines], most_bytes: int) -> MadePack:
    """Of the first rows: as many as have `most_bytes` of lines, and at least one."""
    taken: list[_Row] = []
    parts: dict[tuple[int, int, int], LogPart] = {}
    size = 0
    for row in rows:
        encoded = zlib.decompress(row.lines)
        if taken and size + len(encoded) > most_bytes:
            break
        size += len(encoded)
        taken.append(_Row(row.position, row.step, row.item, row.attempt, row.at, encoded))
        _count(parts, row, [number for _, number, _, _ in _decode(encoded)])
    content = zlib.compress(_encode(_Packed(FORM, taken)), PACK_COMPRESSION)
    pack = LogPack(
        run_id=run_id,
        name=name,
        first_position=taken[0].position,
        last_position=taken[-1].position,
        rows=len(taken),
        lines=sum(part.lines for part in parts.values()),
        size=len(content),
        digest=hashlib.sha256(content).digest(),
        first_time=min(row.at for row in taken),
        last_time=max(row.at for row in taken),
    )
    return MadePack(pack, tuple(parts.values()), content)


def _count(parts: dict[tuple[int, int, int], LogPart], row: StoredLines, numbers: Sequence[int]) -> None:
    key = (row.step, row.item, row.attempt)
    fresh = LogPart(*key, len(numbers), min(numbers), max(numbers), row.at, row.at)
    known = parts.get(key)
    parts[key] = fresh if known is None else _together(known, fresh)


def _together(first: LogPart, second: LogPart) -> LogPart:
    return LogPart(
        first.step,
        first.item,
        first.attempt,
        first.lines + second.lines,
        min(first.first_number, second.first_number),
        max(first.last_number, second.last_number),
        min(first.first_time, second.first_time),
        max(first.last_time, second.last_time),
    )


def read_pack(pack: LogPack, content: bytes, where: LogFilter) -> list[LogChunk]:
    """Those of its chunks that are meant, in order. Raises `BrokenPack`."""
    if hashlib.sha256(content).digest() != pack.digest:
        raise BrokenPack
    packed = _decode_pack(zlib.decompress(content))
    if packed.form != FORM:
        raise BrokenPack
    return list(_chunks(pack.run_id, packed.rows, where))


def _chunks(run_id: RunId, rows: Iterable[_Row], where: LogFilter) -> Iterable[LogChunk]:
    for row in rows:
        if is_meant(where, row.step, row.item, row.attempt, row.at):
            yield LogChunk(run_id, row.step, row.item, row.attempt, row.at, _lines(row.lines), row.position)


def is_meant(where: LogFilter, step: int, item: int, attempt: int, at: int) -> bool:
    asked = ((where.step, step), (where.item, item), (where.attempt, attempt))
    return all(wanted is None or wanted == value for wanted, value in asked) and at >= (where.since or at)
