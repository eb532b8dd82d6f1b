"""What the store of bundles promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

import pytest

from penstock_coordinator.ports import Stores


async def test_a_bundle_is_read_in_slices(stores: Stores) -> None:
    content = bytes(range(256)) * 10_000

    assert await stores.bundles.put("d1", content, 1) is True

    assert await stores.bundles.size("d1") == len(content)
    slices = [await stores.bundles.read("d1", offset, 1_000_000) for offset in range(0, len(content), 1_000_000)]
    assert b"".join(slices) == content
    assert [len(part) for part in slices] == [1_000_000, 1_000_000, 560_000]
    assert await stores.bundles.read("d1", 255, 3) == b"\xff\x00\x01"
    assert await stores.bundles.read("d1", len(content), 10) == b""


async def test_a_bundle_that_is_there_is_not_stored_again(stores: Stores) -> None:
    content = b"content"

    assert await stores.bundles.put("d1", content, 1) is True
    assert await stores.bundles.put("d1", content, 2) is False


async def test_one_bundle_that_comes_twice_at_once_is_stored_once(stores: Stores) -> None:
    stored = await asyncio.gather(*(stores.bundles.put("d1", b"x" * 100_000, 1) for _ in range(3)))

    assert sorted(stored) == [False, False, True]


async def test_which_of_many_are_there(stores: Stores) -> None:
    await stores.bundles.put("d1", b"1", 1)
    await stores.bundles.put("d3", b"", 1)

    assert await stores.bundles.present(["d1", "d2", "d3", "nul\0"]) == {"d1", "d3"}
    assert await stores.bundles.present([]) == set()
    assert await stores.bundles.size("d3") == 0


@pytest.mark.parametrize("digest", ["none", "nul\0nul", "lone \ud800 surrogate"])
async def test_a_bundle_that_is_not_there(stores: Stores, digest: str) -> None:
    assert await stores.bundles.size(digest) is None
    assert await stores.bundles.read(digest, 0, 10) == b""
