"""What one record says: the only way from a rule to the run."""

from __future__ import annotations

from collections.abc import Callable

from penstock_coordinator.core.plan.budget import NO_PRICES, Prices
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS, RunLimits
from penstock_coordinator.core.run.charging import charge_of
from penstock_coordinator.core.run.commands import Command
from penstock_coordinator.core.run.duties import commands, end_reservations
from penstock_coordinator.core.run.events import Event
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.messages import AttemptEnded
from penstock_coordinator.core.run.state import Run

TURN_LIMIT = 2_000
"""How many step runs one turn changes; the rest is left to the next one."""
CONDITION_COST = 4
"""A condition counts as so many steps: most take less time than one, but they may walk over large outputs."""


class Ledger:
    """Events and duties of one record, which may take several turns of one run.

    The run is ahead of the journal as soon as something is emitted: if the record is not stored, the run is to be
    thrown away. `note`, if given, is called with each event and its number before the run evolves by it, for those
    who want to keep what the event ends.
    """

    __slots__ = (
        "_note",
        "commands",
        "ended",
        "events",
        "first_seq",
        "limit",
        "limits",
        "output",
        "prices",
        "refusal",
        "room",
        "run",
    )

    def __init__(
        self,
        run: Run,
        note: Callable[[int, Event], None] | None = None,
        limit: int = TURN_LIMIT,
        limits: RunLimits = DEFAULT_RUN_LIMITS,
        prices: Prices = NO_PRICES,
    ) -> None:
        self.run = run
        self.prices = prices
        """By which budgets in money are counted."""
        self.limits = limits
        """How large the run may become."""
        self.limit = limit
        """How many step runs one turn may change."""
        self._note = note
        self.first_seq = run.seq + 1
        self.events: list[tuple[int, Event]] = []
        self.commands: list[Command] = []
        """Duties after commit, in order."""
        self.room = limit
        """How many of them are left to this turn. Rules that change many at once keep to it."""

        self.output: bytes | None = None
        """What the run gives, if it came to rest COMPLETED in this record."""

        self.ended: AttemptEnded | None = None
        """The result that is being decided on, of a run whose attempts are charged to a budget."""

        self.refusal = ""
        """Why nothing came of what a person asked for, if they are to be told. The caller takes it."""

    @property
    def last_seq(self) -> int:
        """`first_seq` - 1 while there is no event."""
        return self.first_seq + len(self.events) - 1

    def emit(self, event: Event) -> None:
        """Record the fact, give it the next number and fold it at once."""
        run = self.run
        if run.plan.budget is not None:
            charge = charge_of(run, event, self.ended, self.prices)
            if charge is not None:
                self.emit(charge)
        seq = run.seq + 1
        if self._note is not None:
            self._note(seq, event)
        if run.lookups:
            self.commands += end_reservations(run, event)
        evolve(run, seq, event)
        self.events.append((seq, event))
        duties = commands(run, event)
        if duties:
            self.commands += duties

    def answer(self, command: Command) -> None:
        """A duty that no event stands for."""
        self.commands.append(command)
