"""The lane of a simulated coordinator, and those who wait for what it commits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock.testing.journal import LaneWriter
    from penstock_coordinator.ports import AppendOutcome
    from penstock_coordinator.runtime.actor import Actor, Turn

MAX_RECORDS = 20


class Told:
    """One who waits for the fate of what they asked for; told once."""

    __slots__ = ("_done", "_tell")

    def __init__(self, tell: Callable[[AppendOutcome | Exception | None], None]) -> None:
        self._tell = tell
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, outcome: AppendOutcome, /) -> None:
        self._done = True
        self._tell(outcome)

    def set_exception(self, error: Exception, /) -> None:
        self._done = True
        self._tell(error)

    def cancel(self) -> object:
        """Nothing is known of what was asked for."""
        if not self._done:
            self._done = True
            self._tell(None)
        return True


class Outputs:
    """Nobody's inputs are made here: what steps gave is not kept a second time."""

    def put(self, key: object, output: bytes) -> None:
        pass

    def forget(self, key: object) -> None:
        pass


class SimulatedLane:
    """Runs turns, and commits what they decided, in order, one batch at a time."""

    def __init__(self, coordinator: Coordinator, writer: LaneWriter) -> None:
        self._coordinator = coordinator
        self._writer = writer
        self._runnable: deque[Actor] = deque()
        self._pumping = False
        self._pending: deque[Turn] = deque()
        self._committing: list[Turn] = []
        self.on_idle: Callable[[], None] | None = None
        """Told once, when all that was decided is committed."""

    @property
    def idle(self) -> bool:
        return not (self._runnable or self._pending or self._committing)

    def when_idle(self, told: Callable[[], None]) -> None:
        if self.idle:
            told()
        else:
            self.on_idle = told

    def schedule(self, actor: Actor) -> None:
        if actor.scheduled:
            return
        actor.scheduled = True
        self._runnable.append(actor)
        self._coordinator.mailed += 1
        if not self._pumping:
            self._pumping = True
            self._coordinator.after(0, self._pump)

    def _pump(self) -> None:
        self._pumping = False
        for _ in range(len(self._runnable)):
            actor = self._runnable.popleft()
            actor.scheduled = False
            turn = actor.turn()
            self._coordinator.invariants.turn_ends(actor, turn)
            if turn is not None:
                self._pending.append(turn)
            if actor.has_mail:
                self.schedule(actor)
        self._commit()

    def _commit(self) -> None:
        if self._committing:
            return
        batch: list[Turn] = []
        while self._pending and len(batch) < MAX_RECORDS:
            turn = self._pending.popleft()
            if not turn.actor.discarded:
                batch.append(turn)
        if batch:
            self._committing = batch
            records = [turn.record for turn in batch]
            self._writer.commit(records, self._committed, self._coordinator.fenced)
        elif self.on_idle is not None and self.idle:
            told, self.on_idle = self.on_idle, None
            told()

    def _committed(self, outcomes: list[AppendOutcome]) -> None:
        batch, self._committing = self._committing, []
        for turn, outcome in zip(batch, outcomes, strict=True):
            turn.actor.settle(turn, outcome)
            self._coordinator.invariants.settled(turn.actor)
        self._commit()
