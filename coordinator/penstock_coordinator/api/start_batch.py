"""The runs that one call asks for: what becomes of each is found out before the first is started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from penstock_coordinator.api.errors import CallError, invalid
from penstock_coordinator.api.request_ids import same_answer
from penstock_coordinator.api.run_keys import key_taken, key_twice, uses_existing
from penstock_coordinator.ports import KeyTaken, RunId, gives_free
from penstock_coordinator.runtime.views import RunRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.v1 import run_service_pb2 as pb
    from penstock_coordinator.ports import KeyClaim, RunIndex, VersionRow
    from penstock_coordinator.runtime.outcomes import StartAnswer

RUN_ID_BYTES = 16
EXISTING = b"\x01"
"""Behind the run's id in the answer of a request that started none: another had started the run."""
_Name: TypeAlias = tuple[str, str]


class Started(NamedTuple):
    run_id: RunId
    existing: bool = False
    """No run was started: this one was there."""
    request: RunRequest | None = None
    """What it was started with, if it was by this call."""
    version: VersionRow | None = None
    """What was asked for, if that was looked at."""


_Settle: TypeAlias = "Callable[[pb.StartRunRequest, RunRequest, StartAnswer], Awaitable[Started]]"
_Exists: TypeAlias = Callable[[RunRequest, RunId], Awaitable[Started]]


class _Entry:
    """What is asked for once: requests with one id are one entry."""

    def __init__(self, number: int, prepared: RunRequest) -> None:
        self.number = number
        """Of the first such request."""
        self.prepared = prepared
        self.found: RunId | _Entry | None = None
        """The run that the entry uses, or the one that starts it. None: it starts one itself."""
        self.run_id = b""
        """That of the answer, once there is one."""


class StartBatch:
    def __init__(self, requests: Sequence[pb.StartRunRequest]) -> None:
        self._requests = requests
        self._answers: list[_Entry | RunId] = []
        """For each request its entry, or the run that it started before."""
        self._entries: list[_Entry] = []
        self._by_id: dict[str, _Entry] = {}

    def add(self, prepared: RunRequest | Started) -> None:
        """The next request. Raises if another one of the call has the same id and other content."""
        if isinstance(prepared, Started):
            self._answers.append(prepared.run_id)
            return
        key = prepared.request
        entry = None if key is None else self._by_id.get(key.id)
        if entry is None:
            entry = _Entry(len(self._answers), prepared)
            self._entries.append(entry)
            if key is not None:
                self._by_id[key.id] = entry
        elif entry.prepared.request != key:
            raise invalid("request_id", "comes twice in this call, with other content: choose a new id for each run")
        self._answers.append(entry)

    @property
    def claims(self) -> list[KeyClaim]:
        return [entry.prepared.claim for entry in self._entries if entry.prepared.claim is not None]

    @property
    def new(self) -> list[RunRequest]:
        """Those that start a run."""
        return [entry.prepared for entry in self._new]

    @property
    def _new(self) -> list[_Entry]:
        return [entry for entry in self._entries if entry.found is None and not entry.run_id]

    async def look(self, runs: RunIndex) -> None:
        """What the database knows already. Raises if one of the requests is refused for it; to be called while the
        keys are held."""
        await self._look_for_requests(runs)
        names = [(claim.pipeline, claim.run_key) for claim in self.claims]
        holders = await runs.key_holders(names) if names else {}
        taken: dict[_Name, _Entry] = {}
        for entry in self._new:
            with self._within(entry.number):
                self._look_at_key(entry, holders, taken)

    async def _look_for_requests(self, runs: RunIndex) -> None:
        entries = list(self._by_id.values())
        keys = [entry.prepared.request for entry in entries]
        found = await runs.find_requests([key for key in keys if key is not None]) if keys else []
        for entry, repeated in zip(entries, found, strict=True):
            if repeated is not None:
                with self._within(entry.number):
                    entry.run_id = first_start(same_answer(repeated)).run_id

    def _look_at_key(self, entry: _Entry, holders: dict[_Name, tuple[RunId, int]], taken: dict[_Name, _Entry]) -> None:
        claim = entry.prepared.claim
        if claim is None:
            return
        name = (claim.pipeline, claim.run_key)
        request = self._requests[entry.number]
        if (first := taken.get(name)) is not None:
            entry.found = first.found or first
            if not uses_existing(request):
                raise key_twice(request, first.number)
            return
        taken[name] = entry
        holder = holders.get(name)
        if holder is None or gives_free(holder[1], claim.reuse):
            return
        if not uses_existing(request, KeyTaken(*holder)):
            raise key_taken(request, KeyTaken(*holder))
        entry.found = holder[0]

    async def started(self, answers: Sequence[StartAnswer], settle: _Settle, exists: _Exists) -> list[RunId]:
        """The run of each request; `answers` are those of the new ones."""
        for entry, answer in zip(self._new, answers, strict=True):
            with self._within(entry.number):
                entry.run_id = (await settle(self._requests[entry.number], entry.prepared, answer)).run_id
        for entry in self._entries:
            if entry.found is not None:
                run_id = entry.found.run_id if isinstance(entry.found, _Entry) else entry.found
                entry.run_id = (await exists(entry.prepared, run_id)).run_id
        return [answer.run_id if isinstance(answer, _Entry) else answer for answer in self._answers]

    @contextmanager
    def _within(self, number: int) -> Iterator[None]:
        try:
            yield
        except CallError as error:
            raise error.within(f"requests[{number}]") from None


def first_start(answer: bytes) -> Started:
    """What the same request was answered before."""
    return Started(answer[:RUN_ID_BYTES], existing=answer[RUN_ID_BYTES:] == EXISTING)
