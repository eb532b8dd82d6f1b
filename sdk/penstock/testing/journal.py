"""The journal as a model: transactions that are applied as a whole or not at all, and a connection that may fail
before, after or in the middle, and does not say which.

`Store` is the database. `LaneWriter` is what a coordinator makes of it: one commit at a time, each with its fate
known when it is told, as the port `Journal` promises it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.testing.timeline import MILLISECOND, SECOND, Process
from penstock_coordinator.core.run.events import Event, decode
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import (
    AppendOutcome,
    CacheEntryRow,
    Committed,
    Fenced,
    NewRun,
    OutOfSequence,
    Record,
    Repeated,
    RequestRow,
    RunId,
)

if TYPE_CHECKING:
    from penstock.testing.caching import Reservation
    from penstock.testing.timeline import Timeline
    from penstock_coordinator.core.plan.model import Plan

_COMMITTED = Committed()


@dataclass(slots=True)
class StoredRun:
    row: NewRun
    owner: str
    """The coordinator that has it."""
    digest: str
    parameters: bytes
    state: int
    records: list[Record] = field(default_factory=list)
    last_seq: int = 0
    output: bytes | None = None
    reason: str = ""
    outputs: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """What step runs gave, of each the newest."""


class Reach:
    """One party's way to the database, which may be cut for it alone."""

    __slots__ = ("_store", "back_cut", "out_cut")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.out_cut = False
        """Nothing that it asks for arrives."""
        self.back_cut = False
        """No answer arrives."""

    @property
    def away(self) -> bool:
        """It learns nothing from the database."""
        return self._store.away or self.out_cut or self.back_cut

    @property
    def lost(self) -> bool:
        """The database does not hear it."""
        return self._store.away or self.out_cut

    def loses_answer(self) -> bool:
        """Of a statement that was just applied."""
        return self.back_cut or self._store.loses_answer()

    def mend(self) -> None:
        self.out_cut = self.back_cut = False


class Store:
    """What is durable, and who may write."""

    def __init__(self, timeline: Timeline, witness: Callable[[str, int, Record, list[Event]], None]) -> None:
        self.timeline = timeline
        self.runs: dict[RunId, StoredRun] = {}
        self.requests: dict[tuple[str, str], RequestRow] = {}
        self.values: dict[bytes, tuple[RunId, CacheEntryRow]] = {}
        """Of the cache by key, of each the newest."""
        self.reservations: dict[bytes, Reservation] = {}
        self.epoch = 0
        """The newest of all."""
        self.fences: dict[str, int] = {}
        """Of each coordinator that ever owned anything the epoch that it may write with."""
        self.sessions = 0
        self.boots: dict[str, tuple[int, str]] = {}
        """Of each agent its last session, and the boot id of that."""
        self.paused: set[str] = set()
        """Agents that a person has paused."""
        self.away = False
        """Nobody can connect."""
        self.was_away = False
        """At some time."""
        self.slowness = 0
        """So much longer a commit may take."""
        self.unknown = 0
        """Of so many commits to come the answer is lost, once they are applied."""
        self.late = 0
        """Of so many commits to come the connection breaks before they are applied, and they are applied later."""
        self.late_of: dict[str, Callable[[], None]] = {}
        """The same of the next commit of each coordinator, and what happens as the connection breaks."""
        self.after_apply: Callable[[], None] | None = None
        """What happens between the next commit and its answer."""
        self.after_apply_of: dict[str, Callable[[], None]] = {}
        """The same, of each coordinator."""
        self.links: dict[tuple[str, str], tuple[int, str]] = {}
        """Of each agent and member the last session of its link, and the boot id of that."""
        self.raised_at: dict[str, int] = {}
        """When the fence of each coordinator was raised last."""
        self._witness = witness

    def next_epoch(self, owner: str) -> int:
        """A take-over: from now on nobody of an older epoch writes."""
        return self.raise_fences(*self.fences, owner)

    def raise_fences(self, *owners: str) -> int:
        """From now on they write with a new epoch alone."""
        self.epoch += 1
        self.fences.update(dict.fromkeys(owners, self.epoch))
        self.raised_at.update(dict.fromkeys(owners, self.timeline.now))
        return self.epoch

    def may_write(self, owner: str, epoch: int) -> bool:
        return self.fences.get(owner) == epoch

    def live_runs(self, owner: str) -> list[tuple[RunId, StoredRun]]:
        return [
            (run_id, row) for run_id, row in self.runs.items() if row.owner == owner and not RunState(row.state).at_rest
        ]

    def take_over_run(self, owner: str, epoch: int, run_id: RunId) -> bool:
        """One at rest becomes that of the owner with that epoch. False: it is live, or it owns no more."""
        row = self.runs[run_id]
        if not self.may_write(owner, epoch) or not RunState(row.state).at_rest:
            return False
        row.owner = owner
        return True

    def open_session(self, agent: str, boot_id: str) -> tuple[int, bool]:
        """Its number, and whether the agent is paused."""
        self.sessions += 1
        self.boots[agent] = self.sessions, boot_id
        return self.sessions, agent in self.paused

    def open_link(self, agent: str, member: str, boot_id: str) -> int:
        """The number of a session of an agent with a member."""
        self.sessions += 1
        self.links[agent, member] = self.sessions, boot_id
        return self.sessions

    def set_paused(self, agent: str, *, paused: bool) -> bool:
        """Whether there is such an agent."""
        if agent not in self.boots:
            return False
        if paused:
            self.paused.add(agent)
        else:
            self.paused.discard(agent)
        return True

    def loses_answer(self) -> bool:
        """Of a statement that was just applied."""
        lost = self.unknown > 0
        self.unknown -= lost
        return lost

    def transact(self, owner: str, epoch: int, records: Sequence[Record]) -> list[AppendOutcome]:
        """All in one transaction. Raises `Fenced`; then nothing of it is stored."""
        if not self.may_write(owner, epoch):
            raise Fenced(f"epoch {epoch} of {owner} is over")
        refused: set[RunId] = set()
        outcomes: list[AppendOutcome] = []
        for record in records:
            outcome = OutOfSequence() if record.run_id in refused else self._append(owner, epoch, record)
            if not isinstance(outcome, Committed):
                refused.add(record.run_id)
            outcomes.append(outcome)
        return outcomes

    def _append(self, owner: str, epoch: int, record: Record) -> AppendOutcome:
        if record.request is not None:
            key = (record.request.key.method, record.request.key.id)
            before = self.requests.get(key)
            if before is not None:
                return Repeated(before.key.digest == record.request.key.digest, before.answer)
        run = self.runs.get(record.run_id)
        if record.first_seq != (1 if run is None else run.last_seq + 1) or (run is None) != (
            record.new_run is not None
        ):
            return OutOfSequence()
        if run is None:
            assert record.new_run is not None
            new = record.new_run
            run = self.runs[record.run_id] = StoredRun(new, new.owner, new.version_digest, new.parameters, new.state)
            run.output, run.reason = new.output, new.reason
        if record.request is not None:
            self.requests[key] = record.request
        self._note(run, record)
        self._witness(owner, epoch, record, list(decode(record.payload)))
        return _COMMITTED

    def _note(self, run: StoredRun, record: Record) -> None:
        self.values.update({entry.key: (record.run_id, entry) for entry in record.entries})
        run.records.append(record)
        run.last_seq = record.last_seq
        change = record.change
        if change is not None:
            run.state = change.state
            run.digest = change.version_digest or run.digest
            run.parameters = change.parameters or run.parameters
            run.reason = run.reason if change.reason is None else change.reason
            run.output = change.output
        for row in (*record.step_runs, *record.answered):
            if row.output is not None:
                run.outputs[row.step, row.item] = row.output

    def holds(self, record: Record) -> bool:
        """Whether the very record is there."""
        run = self.runs.get(record.run_id)
        if run is None:
            return False
        return any(
            each.first_seq == record.first_seq and each.last_seq == record.last_seq and each.payload == record.payload
            for each in reversed(run.records)
            if each.first_seq >= record.first_seq
        )


def folded(
    row: StoredRun, run_id: RunId, plan_of: Callable[[str, Plan | None], Plan], read: tuple[Run, int] | None = None
) -> tuple[Run, int]:
    """A run as its journal says, and how many of its records there are. `read`: what was read before, to go on from."""
    run, first = (None, 0) if read is None else read
    seq = 0 if run is None else run.seq
    for record in row.records[first:]:
        for event in decode(record.payload):
            seq += 1
            if run is None:
                run = Run(plan_of(row.row.version_digest, None), run_id)
            digest = getattr(event, "version_digest", None)
            if digest is not None and digest != run.plan.digest:
                run.plans = {digest: plan_of(digest, run.plan)}
            evolve(run, seq, event)
    assert run is not None
    return run, len(row.records)


class LaneWriter:
    """The commits of one lane of one coordinator, one at a time."""

    def __init__(self, process: Process, store: Store, reach: Reach, owner: str, epoch: int) -> None:
        self._process = process
        self._store = store
        self._reach = reach
        self._owner = owner
        self._epoch = epoch

    def commit(
        self, records: Sequence[Record], told: Callable[[list[AppendOutcome]], None], fenced: Callable[[], None]
    ) -> None:
        """`told` or `fenced` is called when the fate of all is known."""
        _Commit(self._process, self._store, self._reach, self._owner, self._epoch, records, told, fenced).send()


class _Commit:
    """A batch, from the first attempt until its fate is known."""

    __slots__ = ("_epoch", "_fenced", "_owner", "_process", "_reach", "_records", "_sent", "_store", "_told")

    def __init__(
        self,
        process: Process,
        store: Store,
        reach: Reach,
        owner: str,
        epoch: int,
        records: Sequence[Record],
        told: Callable[[list[AppendOutcome]], None],
        fenced: Callable[[], None],
    ) -> None:
        self._process = process
        self._store = store
        self._reach = reach
        self._owner = owner
        self._epoch = epoch
        self._records = records
        self._told = told
        self._fenced = fenced
        self._sent = False
        """The database may have it."""

    def send(self) -> None:
        store = self._store
        chance = store.timeline.random.random()
        way = 200 + int(chance * MILLISECOND) + int(chance * store.slowness)
        # The database works on whatever becomes of the coordinator.
        store.timeline.after(way, self._arrive, way)

    def _arrive(self, way: int) -> None:
        store = self._store
        if self._reach.lost:
            self._lost()
            return
        happens = store.late_of.pop(self._owner, None)
        if store.late or happens is not None:
            store.late -= happens is None
            store.timeline.after(int(store.timeline.random.random() * SECOND), self._apply_late)
            self._sent = True
            self._lost()
            if happens is not None:
                happens()
            return
        again, self._sent = self._sent, True
        try:
            outcomes = self._settle() if again else store.transact(self._owner, self._epoch, self._records)
        except Fenced:
            if self._reach.back_cut:
                self._lost()
            else:
                self._process.after(way, self._fenced)
            return
        self._between(outcomes, way)

    def _settle(self) -> list[AppendOutcome]:
        """What was sent before is looked for: a batch is there as a whole or not at all, but for what is refused, and
        is again."""
        stored = [self._store.holds(record) for record in self._records]
        rest = [record for record, there in zip(self._records, stored, strict=True) if not there]
        try:
            others = iter(self._store.transact(self._owner, self._epoch, rest))
        except Fenced:
            if not any(stored):
                raise
            others = iter([OutOfSequence()] * len(rest))
        return [_COMMITTED if there else next(others) for there in stored]

    def _between(self, outcomes: list[AppendOutcome], way: int) -> None:
        """It is durable, and nobody knows."""
        store = self._store
        after, store.after_apply = store.after_apply, None
        for happens in (after, store.after_apply_of.pop(self._owner, None)):
            if happens is not None:
                happens()
        if self._reach.back_cut:
            self._lost()
        elif store.unknown:
            store.unknown -= 1
            self._lost()
        else:
            self._answer(outcomes, way)

    def _apply_late(self) -> None:
        """The statement of a connection that is no more: the primary key keeps it from being applied twice."""
        if self._store.may_write(self._owner, self._epoch) and not any(
            self._store.holds(record) for record in self._records
        ):
            self._store.transact(self._owner, self._epoch, self._records)

    def _lost(self) -> None:
        """The connection breaks: the same again, on a new one, after a while."""
        self._process.note("commit_unknown" if self._sent else "database_away")
        self._process.after(int((0.2 + self._store.timeline.random.random()) * SECOND), self.send)

    def _answer(self, outcomes: list[AppendOutcome], way: int) -> None:
        self._process.after(way, self._told, outcomes)
