"""The cache, for the runs of this coordinator: their questions are gathered and asked together, who computes a value
keeps its reservation, and who waits for one is answered as soon as it is there.

Nothing here is remembered over a restart: which step run has asked, waits or computes is in the journal. Whoever waits
is told at once of what happens here, and looks now and then for what happens elsewhere. What the cache does not say in
time is run without it, unless nothing can be committed just now anyway.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from penstock_coordinator.core.plan.cache_keys import NoKey, cache_key
from penstock_coordinator.core.plan.references import may_refer
from penstock_coordinator.core.plan.values import InvalidJson, UnresolvableInput
from penstock_coordinator.core.run.events import CacheSource
from penstock_coordinator.core.run.messages import CacheAnswer, ValueAwaited, ValueFound, ValueMissing
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.ports import (
    CacheEntry,
    CacheQuestion,
    CacheReply,
    Found,
    HeldBy,
    Reserver,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.run.commands import AskCache, EndReservation, KeepReservation
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

AT_ONCE = 256
"""Questions in one call."""
LARGE_INPUTS = 256 * 1024
"""Bytes: keys of more are made beside the loop."""
RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class CacheTiming:
    """Spans in microseconds."""

    reservation_ttl: int = 60_000_000
    look_interval: int = 1_000_000
    """Between two looks at what others compute."""
    patience: int = 5_000_000
    """How long a step run waits for the cache to say anything."""


@dataclass(slots=True, eq=False)
class _Question:
    run_id: RunId
    step: int
    item: int
    token: int
    anew: bool
    asked_at: int
    """Or last answered, by the monotonic clock."""
    key: bytes = b""
    display_name: str = ""
    since: int = 0
    holder: Reserver | None = None
    """Who computes it, as far as the run was told."""

    @property
    def place(self) -> tuple[RunId, int, int]:
        return self.run_id, self.step, self.item

    @property
    def reserver(self) -> Reserver:
        return Reserver(self.run_id, self.step, self.item, self.token, self.display_name)


class Caching:
    def __init__(self, supervisor: Supervisor, timing: CacheTiming) -> None:
        self._supervisor = supervisor
        self._timing = timing
        self._store = supervisor.stores.cache
        self._fresh: dict[tuple[RunId, int, int], _Question] = {}
        """To be asked next, in order."""
        self._waiting: dict[bytes, dict[tuple[RunId, int, int], _Question]] = {}
        """By key those that wait for another one, the longest first."""
        self._held: dict[tuple[bytes, RunId, int, int], Reserver] = {}
        """By key and step run."""
        self._ended: list[tuple[bytes, Reserver, bool]] = []
        """Reservations to be given up, and whether the value is there."""
        self._task: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[list[CacheReply | None]]] = set()
        self._reading: set[asyncio.Task[None]] = set()
        self._due = {"renew": 0, "look": 0}
        self._open = False

    # --- what runs want

    def ask(self, actor: Actor, command: AskCache) -> None:
        now = self._supervisor.clock.monotonic()
        for step, item, anew in command.questions:
            question = _Question(actor.run_id, step, item, command.token, anew, now)
            self._fresh[question.place] = question
        self._begin()

    def keep(self, actor: Actor, command: KeepReservation) -> None:
        """Until the step run ends it, others wait for it."""
        name = actor.run.display_name(command.step, command.item)
        self._hold(command.key, Reserver(actor.run_id, command.step, command.item, command.token, name))

    def end(self, actor: Actor, command: EndReservation) -> None:
        reserver = Reserver(actor.run_id, command.step, command.item, command.token, "")
        self._let_go(command.key, reserver)
        self._ended.append((command.key, reserver, command.known))
        self._begin()

    def _hold(self, key: bytes, reserver: Reserver) -> None:
        self._held[key, reserver.run_id, reserver.step, reserver.item] = reserver

    def _let_go(self, key: bytes, reserver: Reserver) -> None:
        place = key, reserver.run_id, reserver.step, reserver.item
        held = self._held.get(place)
        if held is not None and held.token == reserver.token:
            del self._held[place]

    # --- now and then

    def open(self) -> None:
        """All runs are back: who computed before the restart is known, so that nobody else begins to."""
        self._open = True
        self._begin()

    def run_periodic(self) -> None:
        """What is due, in the background."""
        if self._held or self._waiting or self._fresh or self._ended:
            self._begin()

    def _begin(self) -> None:
        if self._open and self._task is None and not self._supervisor.stopping:
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("cache_failed", exc_info=task.exception())
        if self._fresh or self._ended:
            self._begin()

    def close(self) -> None:
        for task in (self._task, *self._late, *self._reading):
            if task is not None:
                task.cancel()

    async def _work(self) -> None:
        """Until there is nothing to do for now."""
        while not self._supervisor.stopping:
            try:
                await self._renew()
                await self._release()
                self._look()
                if not self._fresh:
                    if self._ended:
                        continue
                    return
                await self._ask(self._take(AT_ONCE))
            except Unavailable as error:
                log.debug("cache_away", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    def _is_due(self, what: str, interval: int) -> bool:
        now = self._supervisor.clock.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + interval
        return True

    # --- reservations

    async def _renew(self) -> None:
        if not self._held or not self._is_due("renew", self._timing.reservation_ttl // 4):
            return
        held: list[tuple[bytes, Reserver]] = []
        for (key, *_), reserver in list(self._held.items()):
            if self._computes(reserver):
                held.append((key, reserver))
            else:
                self._let_go(key, reserver)
                self._ended.append((key, reserver, False))
        for first in range(0, len(held), AT_ONCE):
            part = held[first : first + AT_ONCE]
            kept = await self._store.renew(part, self._timing.reservation_ttl)
            for (key, reserver), still in zip(part, kept, strict=True):
                if not still:
                    self._let_go(key, reserver)

    def _computes(self, reserver: Reserver) -> bool:
        """Whether others do well to wait for it: not for what a paused run has not begun."""
        supervisor, run_id = self._supervisor, reserver.run_id
        actor = supervisor.actor(run_id)
        if actor is None:
            return not supervisor.lost(run_id)
        run, place = actor.run, (reserver.step, reserver.item)
        lookup = run.lookups.get(place)
        if lookup is None or lookup.token != reserver.token:
            # What ended it may not be committed yet: then its turn tells.
            return bool(actor.in_flight)
        return not run.stands_still or run.state_of(*place) is StepState.RUNNING

    async def _release(self) -> None:
        """First the reservations go, then one of those that wait for each takes it, or all get the value."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        try:
            await self._store.release([(key, reserver) for key, reserver, _ in ended])
        except Unavailable:
            self._ended = [*ended, *self._ended]
            raise
        for key, _, known in ended:
            waiting = self._waiting.get(key, {})
            self._wake(key, list(waiting.values()) if known else list(waiting.values())[:1])

    def _wake(self, key: bytes, questions: Sequence[_Question]) -> None:
        waiting = self._waiting.get(key)
        for question in questions:
            if waiting is not None:
                waiting.pop(question.place, None)
            self._fresh[question.place] = question
        if waiting is not None and not waiting:
            del self._waiting[key]

    def _look(self) -> None:
        """For each key the first one that waits asks again: whoever computes it may be elsewhere, or gone."""
        if self._waiting and self._is_due("look", self._timing.look_interval):
            for key, waiting in list(self._waiting.items()):
                self._drop_gone(key, waiting)
                if waiting:
                    self._wake(key, [next(iter(waiting.values()))])

    def _drop_gone(self, key: bytes, waiting: dict[tuple[RunId, int, int], _Question]) -> None:
        for place in [place for place, question in waiting.items() if not self._asks(question)]:
            del waiting[place]
        if not waiting:
            del self._waiting[key]

    # --- questions

    def _take(self, count: int) -> list[_Question]:
        """The next ones that somebody still asks."""
        taken: list[_Question] = []
        while self._fresh and len(taken) < count:
            question = self._fresh.pop(next(iter(self._fresh)))
            if self._asks(question):
                taken.append(question)
        return taken

    def _asks(self, question: _Question) -> bool:
        actor = self._supervisor.actor(question.run_id)
        return actor is not None and actor.run.asker(question.step, question.item, question.token) is not None

    async def _ask(self, questions: list[_Question]) -> None:
        try:
            asking = [question for question in questions if await self._prepare(question)]
            replies = await self._replies(asking) if asking else []
        except Unavailable as error:
            for question in questions:
                if self._asks(question):
                    self._postpone(question, str(error))
            raise
        except Exception as error:
            log.error("cache_failed", exc_info=error)
            for question in questions:
                self._tell(question, self._missing(question, False, "the cache failed"))
            return
        for question, reply in zip(asking, replies, strict=True):
            self._hear(question, reply)

    async def _prepare(self, question: _Question) -> bool:
        """Makes the key. Whether the store is to be asked; else it is answered. Raises `Unavailable`."""
        actor = self._supervisor.actor(question.run_id)
        if actor is None or not self._asks(question):
            return False
        if not question.key:
            why = await self._make_key(actor, question)
            if why is not None:
                self._tell(question, self._missing(question, False, why))
                return False
        if question.anew:
            self._tell(question, self._missing(question, False, ""))
            return False
        return True

    async def _make_key(self, actor: Actor, question: _Question) -> str | None:
        """None, or why there is none."""
        step = actor.plan.steps[question.step]
        policy = step.cache
        assert policy is not None
        try:
            inputs = await self._supervisor.inputs_for(actor, question.step, question.item)
            arguments = (actor.plan, step, actor.run.parameter_values, inputs)
            if sum(map(len, inputs.values())) > LARGE_INPUTS:
                question.key = await asyncio.to_thread(cache_key, *arguments)
            else:
                question.key = cache_key(*arguments)
        except (UnresolvableInput, NoKey, LookupError) as error:
            return str(error)
        question.display_name = actor.run.display_name(question.step, question.item)
        question.since = 0 if policy.expires is None else self._supervisor.clock.now() - policy.expires
        return None

    async def _replies(self, questions: list[_Question]) -> list[CacheReply | None]:
        """Raises `Unavailable`, also if the store takes too long: what it says then is not used."""
        asked = [CacheQuestion(question.key, question.since, question.reserver) for question in questions]
        store, ttl = self._store, self._timing.reservation_ttl
        task = asyncio.create_task(store.ask(asked, self._supervisor.clock.now(), ttl))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        await asyncio.wait({task}, timeout=self._timing.patience / 1e6)
        if not task.done():
            raise Unavailable("the cache does not answer")
        return task.result()

    def _postpone(self, question: _Question, why: str) -> None:
        """Asked again, or run without the cache if it has not said anything for long. While nothing can be committed,
        nothing is lost by waiting."""
        now = self._supervisor.clock.monotonic()
        if self._supervisor.admission.away:
            question.asked_at = now
        if now - question.asked_at < self._timing.patience:
            self._fresh[question.place] = question
        else:
            self._tell(question, self._missing(question, False, f"the cache could not be asked: {why}"))

    def _hear(self, question: _Question, reply: CacheReply | None) -> None:
        question.asked_at = self._supervisor.clock.monotonic()
        if not self._asks(question):
            if reply is not None and not isinstance(reply, Found | HeldBy):
                self._ended.append((question.key, question.reserver, False))
        elif isinstance(reply, Found):
            self._tell(question, self._found(question, reply.entry))
            self._wake(question.key, list(self._waiting.get(question.key, {}).values()))
        elif isinstance(reply, HeldBy):
            self._wait(question, reply.reserver)
        elif reply is None:
            self._fresh[question.place] = question
        else:
            self._hold(question.key, question.reserver)
            self._tell(question, self._missing(question, True, ""))
            self._rename(question.key, question.reserver)

    def _wait(self, question: _Question, holder: Reserver) -> None:
        waiting = self._waiting.setdefault(question.key, {})
        # Who has waited longest stays the first.
        self._waiting[question.key] = {question.place: question, **waiting} if question.holder else waiting
        self._waiting[question.key].setdefault(question.place, question)
        self._rename(question.key, holder)

    def _rename(self, key: bytes, holder: Reserver) -> None:
        """Another one computes it: those that wait are told who."""
        for question in self._waiting.get(key, {}).values():
            if question.holder != holder:
                question.holder = holder
                now, place = self._supervisor.clock.now(), (question.step, question.item)
                message = ValueAwaited(now, *place, question.token, holder.run_id, holder.display_name)
                self._tell(question, message)

    # --- what runs are told

    def _tell(self, question: _Question, message: CacheAnswer) -> None:
        if isinstance(message, ValueFound) and may_refer(message.output):
            task = asyncio.create_task(self._read_and_tell(question, message))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        else:
            self._supervisor.tell(question.run_id, message)

    async def _read_and_tell(self, question: _Question, message: ValueFound) -> None:
        """What the rules will read of a value that refers to artifacts is read first."""
        while self._asks(question):
            actor = self._supervisor.actor(question.run_id)
            assert actor is not None
            try:
                kept = await self._supervisor.spilled.kept_of(actor.plan.steps[question.step], message.output)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except (InvalidJson, UnresolvableInput) as error:
                self._supervisor.tell(question.run_id, self._missing(question, False, str(error)))
                return
            else:
                self._supervisor.tell(question.run_id, replace(message, kept=kept))
                return

    def _found(self, question: _Question, entry: CacheEntry) -> ValueFound:
        row = entry.row
        source = CacheSource(entry.run_id, row.display_name, row.attempt, row.at, row.key)
        now, place = self._supervisor.clock.now(), (question.step, question.item)
        return ValueFound(now, *place, question.token, row.output, source)

    def _missing(self, question: _Question, reserved: bool, why: str) -> ValueMissing:
        if why:
            actor = self._supervisor.actor(question.run_id)
            step = "" if actor is None else actor.plan.steps[question.step].name
            log.info("runs_uncached", run=question.run_id.hex(), step=step, item=question.item, reason=why)
        now, place = self._supervisor.clock.now(), (question.step, question.item)
        return ValueMissing(now, *place, question.token, question.key, reserved, why)
