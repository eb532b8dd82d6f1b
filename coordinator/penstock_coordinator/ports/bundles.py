"""Code bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class BundleStore(Protocol):
    """Code bundles by digest. All methods raise `Unavailable`."""

    async def present(self, digests: Sequence[str], now: int = 0) -> set[str]:
        """With `now`, whoever asks wants to use them: they are kept for a while, whether a version names them or not
        (see `RetentionStore.old_bundles`)."""

    async def put(self, digest: str, content: bytes, now: int) -> bool:
        """False if it was there already."""

    async def size(self, digest: str) -> int | None: ...

    async def read(self, digest: str, offset: int, length: int) -> bytes: ...
