"""Ports `Board` and `Post` on Redis. All keys begin with `penstock:{<namespace>}:` and so are on one node of a cluster.

    coordinators       sorted set: who is on the board, by when it is gone (milliseconds)
    queues:<id>        hash: `ready:<line>`, `running:<line>`, `oldest_wait_us:<line>`, `epoch`, `live_runs`, `relayed`;
                       decimal
    runs:<id>          hash: some live runs by id, each as JSON
    mail:<id>          stream: letters to a coordinator
    probe:<id>         a word that the coordinator looks for again

All of them expire. Scripts are sent whole: a server that was emptied or replaced knows none.
"""

from __future__ import annotations

import contextlib
import itertools
from importlib import resources
from typing import TYPE_CHECKING, Any

from penstock_coordinator.adapters.board_entries import decode_status, encode_status
from penstock_coordinator.adapters.redis.link import ANSWER_SECONDS, LONGEST_WAIT, RedisLink
from penstock_coordinator.core.dispatch.line_names import line_name, line_named
from penstock_coordinator.ports.board import BoardEntry, LineDemand, Published
from penstock_coordinator.ports.post import LETTER_SECONDS, MAILBOX_LETTERS, RECEIVED_AT_ONCE, Letter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MILLISECONDS = 1_000
_SENT_AT_ONCE = 1_000
PROBE_SECONDS = 60.0


def _script(name: str) -> str:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


_PUBLISH, _READ, _WITHDRAW = _script("publish"), _script("read"), _script("withdraw")
_SEND, _RECEIVE = _script("send"), _script("receive")


class RedisBoard:
    def __init__(self, link: RedisLink, prefix: str) -> None:
        self._link = link
        self._prefix = prefix

    async def publish(self, entry: BoardEntry, ttl: float) -> None:
        queues = _queue_fields(entry)
        runs = [part for each in entry.runs for part in (each.run_id.hex(), encode_status(each))]
        keys = self._keys(entry.coordinator_id)
        counts = entry.coordinator_id, int(ttl * _MILLISECONDS), len(queues)
        await self._link.ask("EVAL", _PUBLISH, len(keys), *keys, *counts, *queues, *runs)

    async def read(self) -> list[Published]:
        places = f"{self._prefix}queues:", f"{self._prefix}runs:"
        now, *parts = await self._link.ask("EVAL", _READ, 1, f"{self._prefix}coordinators", *places)
        found = []
        for name, queues, runs in zip(*[iter(parts)] * 3, strict=True):
            with contextlib.suppress(ValueError, KeyError):  # of another release: it is not for this one
                found.append(_published(name.decode(), _pairs(queues), _pairs(runs), int(now)))
        return sorted(found, key=lambda each: each.entry.coordinator_id)

    async def withdraw(self, coordinator_id: str) -> None:
        keys = self._keys(coordinator_id)
        await self._link.ask("EVAL", _WITHDRAW, len(keys), *keys, coordinator_id)

    def _keys(self, coordinator_id: str) -> tuple[str, ...]:
        names = "coordinators", f"queues:{coordinator_id}", f"runs:{coordinator_id}"
        return tuple(self._prefix + name for name in names)


def _queue_fields(entry: BoardEntry) -> list[str | int]:
    fields: list[str | int] = ["epoch", entry.epoch, "live_runs", entry.live_runs, "relayed", entry.relayed]
    for each in entry.lines:
        name = line_name(each.line)
        fields += (f"ready:{name}", each.ready, f"running:{name}", each.running)
        fields += (f"oldest_wait_us:{name}", each.oldest_wait)
    return fields


def _published(name: str, queues: dict[str, bytes], runs: dict[str, bytes], now: int) -> Published:
    """Raises `ValueError`, `KeyError`."""
    lines = tuple(
        LineDemand(
            line_named(line),
            int(ready),
            int(queues[f"running:{line}"]),
            int(queues[f"oldest_wait_us:{line}"]),
        )
        for kind, line, ready in ((*field.partition(":")[::2], value) for field, value in queues.items())
        if kind == "ready"
    )
    statuses = tuple(decode_status(bytes.fromhex(run_id), status) for run_id, status in runs.items())
    relayed = int(queues.get("relayed", 0))  # the release before does not tell
    entry = BoardEntry(name, int(queues["epoch"]), int(queues["live_runs"]), lines, statuses, relayed)
    return Published(entry, max(now - int(queues["published_ms"]), 0) * _MILLISECONDS)


def _pairs(flat: list[bytes]) -> dict[str, bytes]:
    return {field.decode(): value for field, value in zip(flat[::2], flat[1::2], strict=True)}


class RedisPost:
    def __init__(self, link: RedisLink, prefix: str) -> None:
        self._link = link
        self._prefix = prefix

    async def send(self, mail: Mapping[str, Sequence[Letter]]) -> None:
        letters = iter([(name, letter) for name, letters in mail.items() for letter in letters])
        while batch := list(itertools.islice(letters, _SENT_AT_ONCE)):
            await self._send(batch)

    async def _send(self, batch: list[tuple[str, Letter]]) -> None:
        numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name, _ in batch), 1)}
        keys = [self._mailbox(name) for name in numbers]
        written = [part for name, each in batch for part in (numbers[name], each.kind, each.sender, each.body)]
        kept = MAILBOX_LETTERS, int(LETTER_SECONDS * _MILLISECONDS)
        await self._link.ask("EVAL", _SEND, len(keys), *keys, *kept, *written)

    async def receive(self, coordinator_id: str, wait: float) -> list[Letter]:
        mailbox = self._mailbox(coordinator_id)
        if wait:
            wait = min(wait, LONGEST_WAIT)
            blocking = "COUNT", 1, "BLOCK", max(int(wait * _MILLISECONDS), 1), "STREAMS", mailbox, "0-0"
            if not await self._link.ask("XREAD", *blocking, wait=wait):
                return []
        kept = int(LETTER_SECONDS * _MILLISECONDS)
        found = await self._link.ask("EVAL", _RECEIVE, 1, mailbox, RECEIVED_AT_ONCE, kept)
        return [_letter(_pairs(fields)) for fields in found]

    def _mailbox(self, coordinator_id: str) -> str:
        return f"{self._prefix}mail:{coordinator_id}"


def _letter(fields: dict[str, bytes]) -> Letter:
    told = {name: fields.get(name, b"").decode(errors="replace") for name in ("kind", "sender")}
    return Letter(told["kind"], told["sender"], fields.get("body", b""))


class RedisHotState:
    def __init__(self, url: str, namespace: str, coordinator_id: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Raises `ValueError` for a URL that is none. Connects when it is used."""
        self._link = RedisLink(url, f"penstock {coordinator_id}", answer_seconds)
        self._key = f"penstock:{{{namespace}}}:probe:{coordinator_id}"
        self.board = RedisBoard(self._link, f"penstock:{{{namespace}}}:")
        self.post = RedisPost(self._link, f"penstock:{{{namespace}}}:")

    async def probe(self) -> bool:
        """Whether it takes what is written: raises `Unavailable` if not, as of a replica or without memory. True: what
        the last probe has written is still there; False: it is the first one in a minute, or Redis was emptied."""
        known: Any = await self._link.ask("SET", self._key, "here", "PX", int(PROBE_SECONDS * _MILLISECONDS), "GET")
        return known is not None

    async def aclose(self) -> None:
        await self._link.aclose()
