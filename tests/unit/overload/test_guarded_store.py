"""The breaker around the artifact store."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from penstock_coordinator.adapters.artifacts.guarded import GuardedArtifactStore
from penstock_coordinator.adapters.breaker import FAILURES, Breaker, Refused
from penstock_coordinator.adapters.memory.artifact_store import MemoryArtifactStore
from penstock_coordinator.ports import DependencyState, Unavailable
from penstock_coordinator.ports.artifacts import SignedUrl, UnknownUpload
from penstock_coordinator.runtime.store_probe import DOUBT_SECONDS, REST_SECONDS, StoreProbe

DIGEST = "sha256:" + "0" * 64


class Away(MemoryArtifactStore):
    """Counts what it is asked while it is away."""

    def __init__(self) -> None:
        super().__init__()
        self.there = False
        self.asked = 0

    async def get(self, digest: str, limit: int) -> bytes | None:
        await self.probe()
        return await super().get(digest, limit)

    async def probe(self) -> None:
        self.asked += 1
        if not self.there:
            raise Unavailable("away") from OSError()


class Mute(MemoryArtifactStore):
    async def probe(self) -> None:
        await asyncio.Event().wait()


class Full(MemoryArtifactStore):
    """Takes nothing while it is full, and answers all else."""

    def __init__(self) -> None:
        super().__init__()
        self.full = True

    async def put(self, content: bytes, media_type: str = "application/octet-stream") -> str:
        self._take()
        return await super().put(content, media_type)

    async def write_blob(self, name: str, content: bytes) -> None:
        self._take()
        await super().write_blob(name, content)

    def _take(self) -> None:
        if self.full:
            raise Unavailable("full") from OSError()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def guarded() -> tuple[Away, Clock, GuardedArtifactStore]:
    inner, clock = Away(), Clock()
    return inner, clock, GuardedArtifactStore(inner, Breaker("the store", now=clock, chance=lambda: 1.0))


async def test_a_store_that_fails_again_and_again_is_left_in_peace_and_tried_later() -> None:
    inner, clock, store = guarded()
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await store.get(DIGEST, 1)
    with pytest.raises(Refused):
        await store.get(DIGEST, 1)
    assert inner.asked == FAILURES
    told = store.dependency()
    assert (told.name, told.state, told.failures, told.reason) == (
        "artifacts",
        DependencyState.OPEN,
        FAILURES,
        "OSError",
    )
    clock.now, inner.there = 10.0, True
    assert await store.get(DIGEST, 1) is None
    assert store.dependency().state is DependencyState.CLOSED


async def test_what_the_store_refuses_is_no_failure_of_it() -> None:
    _, _, store = guarded()
    for _ in range(FAILURES + 1):
        with pytest.raises(UnknownUpload):
            await store.complete(DIGEST, "none")
    assert store.dependency().state is DependencyState.CLOSED


async def test_urls_are_signed_while_the_store_is_away() -> None:
    _, _, store = guarded()
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await store.get(DIGEST, 1)
    assert await store.sign_download(DIGEST) == SignedUrl("memory:///" + "0" * 64)


async def test_a_store_that_nobody_uses_is_known_to_be_away_and_to_be_back() -> None:
    inner, clock, store = guarded()
    probe = StoreProbe(store)
    for _ in range(FAILURES - 1):
        assert await probe.run_once() == DOUBT_SECONDS
    await probe.run_once()
    assert store.dependency().state is DependencyState.OPEN
    assert await probe.run_once() == DOUBT_SECONDS
    assert inner.asked == FAILURES, "it is left in peace for as long as the breaker says"
    clock.now, inner.there = 10.0, True
    assert await probe.run_once() == REST_SECONDS
    assert store.dependency().state is DependencyState.CLOSED


async def test_a_store_that_does_not_answer_is_away() -> None:
    store = GuardedArtifactStore(Mute(), Breaker("the store", failures=1), probe_seconds=0.01)
    await StoreProbe(store).run_once()
    assert (store.dependency().state, store.dependency().reason) == (DependencyState.OPEN, "TimeoutError")


async def test_a_store_that_is_read_and_cannot_be_written_to_is_away_until_it_takes_something() -> None:
    inner, clock = Full(), Clock()
    store = GuardedArtifactStore(inner, Breaker("the store", now=clock, chance=lambda: 1.0))
    probe = StoreProbe(store)
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await store.put(b"content")
    with capture_logs() as lines:
        for _ in range(FAILURES):
            clock.now += 10.0
            assert await store.get(DIGEST, 1) is None
            assert (store.dependency().state, store.dependency().reason) == (DependencyState.OPEN, "OSError")
            assert await probe.run_once() >= DOUBT_SECONDS
        inner.full, clock.now = False, clock.now + 10.0
        assert await probe.run_once() == REST_SECONDS
    assert store.dependency().state is DependencyState.CLOSED
    assert inner.blobs == {}, "nothing is left of the probe"
    assert [line["event"] for line in lines if line["log_level"] != "debug"] == [
        "artifact_store_away",
        "artifact_store_back",
    ]


async def test_one_write_that_failed_is_no_store_that_is_away() -> None:
    inner = Full()
    store = GuardedArtifactStore(inner)
    with pytest.raises(Unavailable):
        await store.put(b"content")
    assert await store.get(DIGEST, 1) is None
    assert store.dependency().state is DependencyState.CLOSED
    assert await StoreProbe(store).run_once() == DOUBT_SECONDS, "it is asked to take something, and does not"
