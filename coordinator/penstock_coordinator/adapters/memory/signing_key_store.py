"""Port `SigningKeyStore` in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import SigningKey

if TYPE_CHECKING:
    from penstock_coordinator.adapters.memory.database import MemoryDatabase


class MemorySigningKeyStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def keys(self, now: int) -> list[SigningKey]:
        await reached(self._database)
        return self._live(now)

    async def ensure(self, secret: bytes, now: int) -> list[SigningKey]:
        await reached(self._database)
        if not any(key.expire_time is None for key in self._database.signing_keys):
            self._add(secret, now)
        return self._live(now)

    async def rotate(self, secret: bytes, now: int, others_expire: int) -> SigningKey:
        await reached(self._database)
        self._database.signing_keys[:] = [
            dataclasses.replace(key, expire_time=min(key.expire_time or others_expire, others_expire))
            for key in self._live(now)
        ]
        return self._add(secret, now)

    def _live(self, now: int) -> list[SigningKey]:
        keys = (key for key in self._database.signing_keys if key.expire_time is None or key.expire_time > now)
        return sorted(keys, key=lambda key: -key.number)

    def _add(self, secret: bytes, now: int) -> SigningKey:
        self._database.last_signing_key += 1
        key = SigningKey(self._database.last_signing_key, secret, now)
        self._database.signing_keys.append(key)
        return key
