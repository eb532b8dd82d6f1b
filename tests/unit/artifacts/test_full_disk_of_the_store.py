"""What a full disk of the artifact store leaves behind, and what is said of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from penstock_coordinator.adapters.artifacts.guarded import GuardedArtifactStore
from penstock_coordinator.adapters.artifacts.local import LocalArtifactStore
from penstock_coordinator.adapters.artifacts.signed_urls import UrlBook
from penstock_coordinator.adapters.breaker import FAILURES
from penstock_coordinator.ports import StoreUnavailable

DIGEST = "sha256:" + "0" * 64


class OneKey:
    def sign(self, content: bytes) -> tuple[int, str]:
        return 1, content.hex()

    async def verify(self, number: int, content: bytes, signature: str) -> bool:
        return (number, signature) == self.sign(content)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuardedArtifactStore:
    """Its disk takes folders and empty files, and no more."""

    def refuse(path: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    return GuardedArtifactStore(LocalArtifactStore(tmp_path, UrlBook(OneKey(), lambda: "http://localhost", lambda: 0)))


async def test_an_upload_that_could_not_begin_leaves_nothing(store: GuardedArtifactStore, tmp_path: Path) -> None:
    for _ in range(FAILURES - 1):
        with pytest.raises(StoreUnavailable, match="No space left"):
            await store.begin(DIGEST, 5, "text/plain")
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_the_breaker_too_says_that_it_is_the_store(store: GuardedArtifactStore) -> None:
    for _ in range(FAILURES):
        with pytest.raises(StoreUnavailable):
            await store.begin(DIGEST, 5, "text/plain")
    with pytest.raises(StoreUnavailable, match="is not tried for") as refused:
        await store.find(DIGEST)
    assert refused.value.retry_after is not None
