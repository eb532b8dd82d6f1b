"""Ports `Board` and `Post` on unlogged tables. NOTIFY hints at letters; that nothing is missed is for polling."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.adapters.board_entries import decode_entry, encode_entry
from penstock_coordinator.adapters.postgres.connections import Database
from penstock_coordinator.adapters.postgres.notices import Notices
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports.board import Published
from penstock_coordinator.ports.post import LETTER_SECONDS, MAILBOX_LETTERS, RECEIVED_AT_ONCE, Letter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock_coordinator.ports.board import BoardEntry

_BOARD, _POST = load("board"), load("post")
CHANNEL = "penstock_post"
CONNECTIONS = 2
ANSWER_SECONDS = 2.0
POLL_SECONDS = 1.0
"""Between two looks into a mailbox, if no hint comes."""

_letters = msgspec.msgpack.Decoder(Letter)


class PostgresBoard:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, entry: BoardEntry, ttl: float) -> None:
        await self._database.fetch(_BOARD["publish"], entry.coordinator_id, encode_entry(entry), ttl)

    async def read(self) -> list[Published]:
        found = []
        for row in await self._database.fetch(_BOARD["read"]):
            with contextlib.suppress(ValueError):  # of another release: it is not for this one
                found.append(Published(decode_entry(row["entry"]), max(row["age"], 0)))
        return found

    async def withdraw(self, coordinator_id: str) -> None:
        await self._database.fetch(_BOARD["withdraw"], coordinator_id)


class PostgresPost:
    def __init__(self, database: Database, dsn: str, name: str) -> None:
        self._database = database
        self._hints: dict[str, asyncio.Event] = {}
        self._notices = Notices(dsn, f"{name} hints", CHANNEL, self._hear)

    async def send(self, mail: Mapping[str, Sequence[Letter]]) -> None:
        recipients = [name for name, letters in mail.items() for _ in letters]
        letters = [msgspec.msgpack.encode(letter) for letters in mail.values() for letter in letters]
        if not letters:
            return
        names = sorted(set(recipients))
        async with self._database.transaction() as connection:
            await connection.execute(_POST["send"], recipients, letters, LETTER_SECONDS)
            await connection.execute(_POST["trim"], names, MAILBOX_LETTERS)
            await connection.execute(_POST["hint"], names)

    async def receive(self, coordinator_id: str, wait: float) -> list[Letter]:
        if not wait:
            return await self._take(coordinator_id)
        hint = self._hints.get(coordinator_id)
        if hint is None:
            hint = self._hints[coordinator_id] = asyncio.Event()
            hint.set()  # there may be letters from before
        await self._notices.listen()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hint.wait(), min(wait, POLL_SECONDS))
        hint.clear()
        return await self._take(coordinator_id)

    async def _take(self, coordinator_id: str) -> list[Letter]:
        rows = await self._database.fetch(_POST["receive"], coordinator_id, RECEIVED_AT_ONCE)
        if len(rows) == RECEIVED_AT_ONCE and (hint := self._hints.get(coordinator_id)) is not None:
            hint.set()
        letters = []
        for row in rows:
            with contextlib.suppress(msgspec.MsgspecError):  # of another release
                letters.append(_letters.decode(row["letter"]))
        return letters

    def _hear(self, recipient: str) -> None:
        if (hint := self._hints.get(recipient)) is not None:
            hint.set()

    async def aclose(self) -> None:
        await self._notices.aclose()


class PostgresHotState:
    """Both, on connections of their own: they keep nothing else waiting. None is opened before it is needed."""

    def __init__(self, database: Database, dsn: str, name: str) -> None:
        self._database = database
        self.board = PostgresBoard(database)
        self.post = PostgresPost(database, dsn, name)

    @classmethod
    async def open(cls, dsn: str, coordinator_id: str, answer_seconds: float = ANSWER_SECONDS) -> PostgresHotState:
        name = f"penstock {coordinator_id} hot state"
        return cls(await Database.open(dsn, name, CONNECTIONS, answer_seconds), dsn, name)

    async def aclose(self) -> None:
        await self.post.aclose()
        await self._database.aclose()
