"""Who knows a digest does not have its bytes: what an attempt says that it made it has brought, or shown that it has.

Receipts are signed and kept by the agent, so they hold over restarts, and with any coordinator of the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import re
from collections import OrderedDict
from typing import TYPE_CHECKING

from penstock_coordinator.runtime.credentials import Signer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.ports import ArtifactIndex, RunId
    from penstock_coordinator.ports.artifacts import ArtifactStore
    from penstock_coordinator.runtime.credentials import Keyring

RANGE_BYTES = 16 << 10
RANGES = 64
"""Of a challenge. What is not larger than all of them is asked for as a whole."""
CHECKS_AT_ONCE = 4
MOST_BROUGHT = 10_000
_RECEIPT = re.compile(r"([0-9]{1,9})\.([0-9a-f]{64})")

Range = tuple[int, int]
"""Its offset and size."""


def nonce_of(credential: str, digest: str) -> bytes:
    """Another one for each lease, the same whenever it asks: an answer is of no use to anybody else, and a lease that
    has guessed wrong gains nothing by asking again."""
    return hashlib.sha256(f"penstock possession {credential} {digest}".encode()).digest()


def ranges_of(nonce: bytes, size: int) -> tuple[Range, ...]:
    if size <= RANGES * RANGE_BYTES:
        return ((0, size),)
    chance = random.Random(nonce)  # noqa: S311  # who cannot foresee the nonce cannot foresee the places
    return tuple((chance.randrange(size - RANGE_BYTES + 1), RANGE_BYTES) for _ in range(RANGES))


class Possession:
    def __init__(self, store: ArtifactStore, index: ArtifactIndex, keyring: Keyring) -> None:
        self._store = store
        self._index = index
        self._signer = Signer(keyring, "artifact receipt")
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._brought: OrderedDict[tuple[RunId, str], None] = OrderedDict()
        """What saves a proof, and no more than that."""

    def receipt(self, run_id: RunId, digest: str) -> str:
        """For a result of the run: it may name the bytes as made."""
        self._brought[run_id, digest] = None
        if len(self._brought) > MOST_BROUGHT:
            self._brought.popitem(last=False)
        number, signature = self._signer.sign(_signed(run_id, digest))
        return f"{number}.{signature}"

    async def is_known(self, run_id: RunId, digest: str) -> bool:
        """The run has brought it, made it or was given it. Raises `Unavailable`."""
        return (run_id, digest) in self._brought or bool(await self._index.of_run(run_id, [digest]))

    async def is_proof(self, proof: str, nonce: bytes, digest: str, ranges: Sequence[Range]) -> bool:
        """Raises `Unavailable`."""
        made = hashlib.sha256(nonce)
        async with self._checks:
            for offset, size in ranges:
                data = await self._store.read(digest, offset, size)
                if data is None or len(data) != size:
                    return False
                made.update(data)
        return hmac.compare_digest(made.hexdigest(), proof.encode("ascii", "replace").decode())

    async def unproven(self, run_id: RunId, made: Sequence[tuple[str, str]]) -> set[str]:
        """Of (digest, receipt) the digests that the run has no receipt for and may not read. Raises `Unavailable`."""
        without = {digest for digest, receipt in made if not await self._is_receipt(run_id, digest, receipt)}
        return without - await self._index.of_run(run_id, without) if without else set()

    async def _is_receipt(self, run_id: RunId, digest: str, receipt: str) -> bool:
        found = _RECEIPT.fullmatch(receipt)
        return found is not None and await self._signer.verify(int(found[1]), _signed(run_id, digest), found[2])


def _signed(run_id: RunId, digest: str) -> bytes:
    return run_id + digest.encode()
