"""The spool's file: what survives, and what is cut off."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from penstock_agent.runtime import spool as spools
from penstock_agent.runtime.spool import Spool

MACHINE = "m" * 36
ONE, TWO = b"1" * 16, b"2" * 16


def size_of(path: Path) -> int:
    return path.stat().st_size


async def filled(path: Path) -> None:
    spool = Spool(path, MACHINE)
    assert spool.load() == []
    spool.add(ONE, 10, b"first")
    spool.add(TWO, 20, b"second")
    await spool.settle()
    assert spool.size == size_of(path) > 0
    spool.close()


async def test_what_was_added_and_not_removed_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    await filled(path)
    spool = Spool(path, MACHINE)
    assert [(each.result_id, each.ended_at, each.payload) for each in spool.load()] == [
        (ONE, 10, b"first"),
        (TWO, 20, b"second"),
    ]
    spool.remove(ONE)
    spool.remove(b"x" * 16)
    await spool.settle()
    spool.close()
    again = Spool(path, MACHINE)
    assert [each.payload for each in again.load()] == [b"second"]
    assert again.depth == 1
    again.close()


async def test_instants_of_another_start_of_the_machine_mean_nothing(tmp_path: Path) -> None:
    await filled(tmp_path / "spool")
    spool = Spool(tmp_path / "spool", "n" * 36)
    assert [each.ended_at for each in spool.load()] == [None, None]
    spool.close()


@pytest.mark.parametrize("cut", range(1, 70, 7))
async def test_a_torn_end_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "spool"
    await filled(path)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    spool = Spool(path, MACHINE)
    assert [each.payload for each in spool.load()] == [b"first"]
    spool.add(TWO, 30, b"third")
    await spool.settle()
    spool.close()
    again = Spool(path, MACHINE)
    assert [each.payload for each in again.load()] == [b"first", b"third"]
    again.close()


async def test_a_flipped_bit_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    await filled(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    spool = Spool(path, MACHINE)
    assert [each.payload for each in spool.load()] == [b"first"]
    spool.close()


async def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "COMPACT_FROM", 1_000)
    path = tmp_path / "spool"
    spool = Spool(path, MACHINE)
    spool.add(b"k" * 16, 1, b"kept")
    for number in range(200):
        result_id = number.to_bytes(16, "big")
        spool.add(result_id, 1, b"x" * 100)
        await spool.settle()
        spool.remove(result_id)
    await spool.settle()
    assert path.stat().st_size < 3_000
    spool.close()
    again = Spool(path, MACHINE)
    assert [each.payload for each in again.load()] == [b"kept"]
    again.remove(b"k" * 16)
    await again.settle()
    assert path.stat().st_size == 0
    again.close()


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
async def test_what_a_broken_disk_did_not_keep_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Half of what is written may be there when the system says that it failed."""
    monkeypatch.setattr(spools, "RETRY_AFTER", 0.0)
    path = tmp_path / "spool"
    await filled(path)
    failures = [OSError(errno.EIO, "broken"), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")]
    real, seen = getattr(os, call), []

    def broken(*arguments: Any) -> Any:
        if failures:
            if call == "pwrite":
                real(arguments[0], arguments[1][:3], arguments[2])
            raise failures.pop()
        seen.append(spool.failing)
        return real(*arguments)

    spool = Spool(path, MACHINE)
    assert len(spool.load()) == 2
    monkeypatch.setattr(os, call, broken)
    assert not spool.failing
    spool.add(b"3" * 16, 30, b"third")
    spool.remove(ONE)
    await spool.settle()
    assert (failures, seen[0], spool.failing) == ([], True, False)
    spool.close()
    again = Spool(path, MACHINE)
    assert [each.payload for each in again.load()] == [b"second", b"third"]
    again.close()
