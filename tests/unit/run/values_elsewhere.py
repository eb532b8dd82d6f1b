"""The cache, as a coordinator keeps it for one run: questions are open until they are answered, and what is reserved
for step runs is theirs until they come to rest."""

from __future__ import annotations

from collections.abc import Iterable

from penstock_coordinator.core.run.commands import AskCache, Command, EndReservation, KeepReservation
from penstock_coordinator.core.run.state import Run


class ValuesElsewhere:
    def __init__(self) -> None:
        self.questions: dict[tuple[int, int], int] = {}
        """The newest of each step run (step, item)."""
        self.reserved: dict[tuple[int, int, int], bytes] = {}
        """By step run and token the key."""

    def carry_out(self, commands: Iterable[Command]) -> None:
        """Each is idempotent, in any number."""
        for command in commands:
            if isinstance(command, AskCache):
                self.questions.update({(step, item): command.token for step, item, _ in command.questions})
            elif isinstance(command, KeepReservation):
                self.reserved[command.step, command.item, command.token] = command.key
            elif isinstance(command, EndReservation):
                self.reserved.pop((command.step, command.item, command.token), None)

    def check(self, run: Run) -> None:
        """Once all commands are carried out: all that waits has asked, and nobody waits for what nobody computes."""
        for (step, item), lookup in run.lookups.items():
            assert not run.awaits_value(step, item) or self.questions[step, item] == lookup.token
            assert not lookup.reserved or self.reserved[step, item, lookup.token] == lookup.key
        for step, item, token in self.reserved:
            lookup_of = run.lookups.get((step, item))
            assert lookup_of is not None
            assert lookup_of.token == token
