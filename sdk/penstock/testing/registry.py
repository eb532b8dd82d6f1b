"""The rows of coordinators as a model, and questions about them: each is answered as a whole or not at all, and whoever
has had no answer knows nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.testing.journal import Reach, Store
    from penstock.testing.timeline import Process

LATEST = 2 * SECOND
"""So late a question arrives whose connection broke on the way."""
_GONE = CoordinatorRow("", OwnershipState.GONE, 0, 0, 0, "", "", 0)


class Registry:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows: dict[str, CoordinatorRow] = {}
        self.late = 0
        """Of so many changes to come the connection breaks before they arrive, and they arrive later."""
        self.unknown = 0
        """Of so many the answer is lost."""

    def register(self, row: CoordinatorRow, known: int) -> None:
        """As one that waits. Not if it owns with an epoch after the one that is known to whoever asks: then the
        question is one of before, and comes late."""
        before = self.rows.get(row.coordinator_id, _GONE)
        if before.state is OwnershipState.OWNER and before.epoch > known:
            return
        self.rows[row.coordinator_id] = replace(
            row, state=OwnershipState.FOLLOWER, epoch=before.epoch, renewals=before.renewals + 1
        )

    def look(self) -> list[CoordinatorRow]:
        return [row for _, row in sorted(self.rows.items()) if row.state is not OwnershipState.GONE]

    def renew(self, name: str, epoch: int) -> bool:
        row = self.rows.get(name, _GONE)
        if not _is(row, epoch):
            return False
        self.rows[name] = replace(row, renewals=row.renewals + 1)
        return True

    def claim(self, name: str, owners: Sequence[CoordinatorRow]) -> tuple[int, bool] | None:
        """The epoch, and whether nobody else is there."""
        own = self.rows.get(name, _GONE)
        expected = {row.coordinator_id: row.mark for row in owners}
        found = {row.coordinator_id: row.mark for row in self.look() if row.state is OwnershipState.OWNER}
        if own.state is not OwnershipState.FOLLOWER or found != expected:
            return None
        epoch = self.store.next_epoch(name)
        for former in found:
            row = self.rows[former]
            self.rows[former] = replace(row, state=OwnershipState.GONE, renewals=row.renewals + 1)
        self.rows.update({other: replace(row, appointed=False) for other, row in self.rows.items() if row.appointed})
        own = self.rows[name]
        self.rows[name] = replace(own, state=OwnershipState.OWNER, epoch=epoch, renewals=own.renewals + 1)
        return epoch, all(row.state is not OwnershipState.FOLLOWER for row in self.rows.values())

    def release(self, name: str, epoch: int, successor: str) -> None:
        """`successor` is appointed, if it waits; "": nobody is."""
        row = self.rows.get(name, _GONE)
        if not _is(row, epoch):
            return
        self.rows[name] = replace(row, state=OwnershipState.GONE, renewals=row.renewals + 1)
        other = self.rows.get(successor, _GONE)
        if other.state is OwnershipState.FOLLOWER:
            self.rows[successor] = replace(other, appointed=True)

    def forget(self, seen: CoordinatorRow) -> None:
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
                timeline.after(int(timeline.random.random() * LATEST), what)
                give_up()
            else:
                answer = what()
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


def _is(row: CoordinatorRow, epoch: int) -> bool:
    """The owner with that epoch, or one that waits."""
    if row.state is OwnershipState.OWNER:
        return row.epoch == epoch
    return row.state is OwnershipState.FOLLOWER and not epoch
