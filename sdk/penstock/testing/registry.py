"""The rows of coordinators as a model, and questions about them: each is answered as a whole or not at all, and whoever
has had no answer knows nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.testing.journal import Reach, Store
    from penstock.testing.timeline import Process
    from penstock_coordinator.ports import RunId

LATEST = 2 * SECOND
"""So late a question arrives whose connection broke on the way."""
CLAIMED_AT_ONCE = 2
"""Runs of one transaction."""
BETWEEN = 5 * MILLISECOND
"""The longest between two statements of a transaction."""
LOCKED_FOR = 1 * MILLISECOND
"""Who waits for a row looks again then."""
OWNING = (OwnershipState.OWNER, OwnershipState.MEMBER)
_GONE = CoordinatorRow("", OwnershipState.GONE, 0, 0, 0, "", "", 0)


class _Locked(Exception):
    """Another transaction has the row: this one waits, and has done nothing."""


class Registry:
    def __init__(self, store: Store, changed: Callable[[], None]) -> None:
        """`changed`: told after every change of a row."""
        self.store = store
        self.rows: dict[str, CoordinatorRow] = {}
        self.late = 0
        """Of so many changes to come the connection breaks before they arrive, and they arrive later."""
        self.unknown = 0
        """Of so many the answer is lost."""
        self._shared: Counter[str] = Counter()
        """Rows that transactions hold to read: nobody changes them."""
        self._changed = changed

    def _row(self, name: str) -> CoordinatorRow:
        return self.rows.get(name, _GONE)

    def _lock(self, *names: str) -> None:
        """To change them."""
        if any(self._shared[name] for name in names):
            raise _Locked

    def _write(self, row: CoordinatorRow) -> None:
        self.rows[row.coordinator_id] = replace(row, renewals=row.renewals + 1)

    def register(self, row: CoordinatorRow, known: int) -> None:
        """As one that waits. Not if it owns with an epoch after the one that is known to whoever asks: then the
        question is one of before, and comes late."""
        self._lock(row.coordinator_id)
        before = self._row(row.coordinator_id)
        if before.state in OWNING and before.epoch > known:
            return
        self._write(replace(row, state=OwnershipState.FOLLOWER, epoch=before.epoch, renewals=before.renewals))

    def look(self) -> list[CoordinatorRow]:
        return [row for _, row in sorted(self.rows.items()) if row.state is not OwnershipState.GONE]

    def renew(self, name: str, epoch: int) -> bool:
        self._lock(name)
        row = self._row(name)
        if not _is(row, epoch):
            return False
        self._write(row)
        return True

    def claim(self, name: str, owners: Sequence[CoordinatorRow]) -> tuple[int, bool] | None:
        """The epoch, and whether nobody else is there."""
        self._lock(*self.rows)
        own = self._row(name)
        expected = {row.coordinator_id: row.mark for row in owners}
        found = {row.coordinator_id: row.mark for row in self.look() if row.state in OWNING}
        if own.state is not OwnershipState.FOLLOWER or found != expected:
            return None
        epoch = self.store.next_epoch(name)
        members = [former for former in found if self.rows[former].state is OwnershipState.MEMBER]
        for former in found:
            self._write(replace(self.rows[former], state=OwnershipState.GONE))
        self.rows.update({other: replace(row, appointed=False) for other, row in self.rows.items() if row.appointed})
        self._write(replace(self.rows[name], state=OwnershipState.OWNER, epoch=epoch, head_epoch=epoch))
        self._changed()
        waiting = [row for row in self.rows.values() if row.state is OwnershipState.FOLLOWER]
        return epoch, not waiting and not members

    def join(self, name: str, head: CoordinatorRow) -> int | None:
        """The epoch of a member of that head. Not while it has live runs of before: they may be bound."""
        self._lock(name, head.coordinator_id)
        own = self._row(name)
        if own.state is not OwnershipState.FOLLOWER or not self._leads(head.coordinator_id, head.epoch):
            return None
        if self.store.live_runs(name):
            return None
        epoch = self.store.raise_fences(name)
        member = replace(own, state=OwnershipState.MEMBER, epoch=epoch, head_epoch=head.epoch, appointed=False)
        self._write(member)
        self._changed()
        return epoch

    def bury(self, head: str, epoch: int, member: CoordinatorRow) -> bool:
        """The head ends one of its members, as it was seen."""
        self._lock(head, member.coordinator_id)
        found = self._row(member.coordinator_id)
        if not self._leads(head, epoch) or found.state is not OwnershipState.MEMBER or found.head_epoch != epoch:
            return False
        if found.mark != member.mark:
            return False
        self.store.raise_fences(member.coordinator_id)
        self._write(replace(found, state=OwnershipState.GONE))
        self._changed()
        return True

    def _leads(self, name: str, epoch: int) -> bool:
        row = self._row(name)
        return row.takes_members and row.epoch == epoch

    def claim_runs(self, name: str, epoch: int) -> Generator[int, None, list[RunId]]:
        """Live runs of those that own nothing become those of the head, in a transaction of several statements."""
        gone = {row.coordinator_id for row in self.rows.values() if row.state not in OWNING}
        self._shared.update(gone)
        yield self._pause()
        left = [run_id for run_id, row in self.store.runs.items() if row.owner in gone and _live(row.state)]
        owners = {self.store.runs[run_id].owner for run_id in left}
        claimed: list[RunId] = []
        if owners and self.store.may_write(name, epoch):
            self.store.raise_fences(*owners)
            claimed = left[:CLAIMED_AT_ONCE]
        for run_id in claimed:
            self.store.runs[run_id].owner = name
        self._shared.subtract(gone)
        self._changed()
        return claimed

    def _pause(self) -> int:
        return int(self.store.timeline.random.random() * BETWEEN)

    def release(self, name: str, epoch: int, successor: str) -> None:
        """`successor` is appointed, if it waits; "": nobody is."""
        self._lock(name, successor)
        row = self._row(name)
        if not _is(row, epoch):
            return
        self._write(replace(row, state=OwnershipState.GONE))
        other = self._row(successor)
        if other.state is OwnershipState.FOLLOWER:
            self.rows[successor] = replace(other, appointed=True)

    def forget(self, seen: CoordinatorRow) -> None:
        self._lock(seen.coordinator_id)
        row = self.rows[seen.coordinator_id]
        if row.state is OwnershipState.FOLLOWER and row.renewals == seen.renewals:
            self.rows[seen.coordinator_id] = replace(row, state=OwnershipState.GONE)

    # --- questions

    def ask(
        self,
        process: Process,
        reach: Reach,
        patience: int,
        what: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[], None],
    ) -> None:
        """`then` hears the answer; `failed` is called within `patience` if none comes: then it may have been done, or
        is done yet."""
        timeline = self.store.timeline
        chance = timeline.random.random()
        way = 200 + int(chance * (MILLISECOND + self.store.slowness))
        late = patience - way

        def arrive() -> None:
            if reach.lost:
                give_up()
            elif self.late and what != self.look:
                self.late -= 1
                timeline.after(int(timeline.random.random() * LATEST), self._transact, what, _nobody)
                give_up()
            else:
                self._transact(what, answered)

        def answered(answer: Any) -> None:
            if self.unknown and what != self.look:
                self.unknown -= 1
                give_up()
            elif reach.back_cut or way > late:
                give_up()
            else:
                process.after(way, then, answer)

        def give_up() -> None:
            process.after(max(0, int(late * chance)), failed)

        timeline.after(way, arrive)

    def _transact(self, what: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Once nobody else has the rows. The database works on whatever becomes of whoever has asked."""
        try:
            done = what()
        except _Locked:
            self.store.timeline.after(LOCKED_FOR, self._transact, what, then)
            return
        if isinstance(done, Generator):
            self._go_on(done, then)
        else:
            then(done)

    def _go_on(self, statements: Generator[int, None, Any], then: Callable[[Any], None]) -> None:
        try:
            pause = next(statements)
        except StopIteration as done:
            then(done.value)
        else:
            self.store.timeline.after(pause, self._go_on, statements, then)


def _nobody(_: Any) -> None:
    """Nobody waits for the answer."""


def _live(state: int) -> bool:
    return not RunState(state).at_rest


def _is(row: CoordinatorRow, epoch: int) -> bool:
    """The head or member with that epoch, or one that waits."""
    if row.state in OWNING:
        return row.epoch == epoch
    return row.state is OwnershipState.FOLLOWER and not epoch
