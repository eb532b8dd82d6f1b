"""Port `SecretStore` in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import SecretRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.adapters.memory.database import MemoryDatabase


class MemorySecretStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def put(self, name: str, key_id: str, content: bytes, now: int) -> SecretRow:
        await reached(self._database)
        found = self._database.secrets.get(name)
        row = SecretRow(name, key_id, content, now if found is None else found.create_time, now)
        self._database.secrets[name] = row
        return row

    async def get(self, names: Sequence[str]) -> list[SecretRow]:
        await reached(self._database)
        return [row for name, row in sorted(self._database.secrets.items()) if name in names]

    async def list_secrets(self, limit: int, after: str = "") -> list[SecretRow]:
        await reached(self._database)
        return [row for name, row in sorted(self._database.secrets.items()) if name > after][:limit]

    async def delete(self, name: str) -> bool:
        await reached(self._database)
        return self._database.secrets.pop(name, None) is not None

    async def replace(self, row: SecretRow, key_id: str, content: bytes) -> bool:
        await reached(self._database)
        found = self._database.secrets.get(row.name)
        if found is None or found.content != row.content:
            return False
        self._database.secrets[row.name] = dataclasses.replace(found, key_id=key_id, content=content)
        return True
