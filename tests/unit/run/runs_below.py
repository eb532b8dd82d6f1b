"""The runs that steps of a run are, as a coordinator keeps them: they start, are told to stop, end, and say so."""

from __future__ import annotations

from collections.abc import Iterable

from penstock_coordinator.core.run.commands import CancelChild, Command, StartChild
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState


class RunsBelow:
    def __init__(self) -> None:
        self.whose: dict[bytes, tuple[int, int]] = {}
        """All that were ever started, and the step runs (step, item) that they are."""
        self.live: dict[bytes, None] = {}
        self.stopping: set[bytes] = set()
        self.over: dict[bytes, RunState] = {}
        self.unsaid: list[bytes] = []
        """At rest, and their parent has asked."""

    def carry_out(self, commands: Iterable[Command]) -> None:
        """Each is idempotent, in any number."""
        for command in commands:
            if isinstance(command, StartChild):
                self._start(command)
            elif isinstance(command, CancelChild) and command.run_id in self.live:
                self.stopping.add(command.run_id)

    def _start(self, command: StartChild) -> None:
        self.whose[command.run_id] = command.step, command.item
        if command.run_id in self.over:
            self.unsaid.append(command.run_id)
        else:
            self.live[command.run_id] = None

    def end(self, run_id: bytes, state: RunState) -> None:
        del self.live[run_id]
        self.over[run_id] = state

    def check(self, run: Run) -> None:
        """Once all commands are carried out: what lives is waited for, or is being stopped."""
        for run_id in self.live:
            assert run_id in self.stopping or run.children.get(self.whose[run_id]) == run_id
        for run_id in run.children.values():
            assert run_id in self.live or run_id in self.over
