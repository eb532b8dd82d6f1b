"""An agent's machine, which stays, with whichever process lives on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.testing.agents import AgentProcess, AgentSpec
from penstock.testing.network import End, Link, Weather
from penstock.testing.spool import Disk
from penstock.testing.timeline import SECOND, PartyClock

if TYPE_CHECKING:
    from penstock.testing.executions import Behave
    from penstock.testing.invariants import Invariants
    from penstock.testing.timeline import Timeline


class Machine:
    """An agent's place: its disk, its clock, its network, and whichever process lives on it."""

    def __init__(
        self,
        timeline: Timeline,
        spec: AgentSpec,
        behave: Behave,
        invariants: Invariants,
        connect: Callable[[AgentProcess, End, str, Sequence[str], str], Link | None],
        serves: Callable[[Machine, str], bool],
        addresses: Sequence[str] = ("",),
    ) -> None:
        """`serves`: whether a coordinator is reached there that serves agents. `addresses`: of the coordinators that it
        knows."""
        self.timeline = timeline
        self.spec = spec
        self.behave = behave
        self.invariants = invariants
        self.connect = connect
        self.serves = serves
        self.clock = PartyClock(timeline, spec.clock_rate, began=5_000 * SECOND)
        self.disk = Disk()
        self.weathers = {address: Weather() for address in addresses}
        """What the network is like between it and each coordinator."""
        self.boots = 0
        self.process: AgentProcess | None = None
        self.drained = False
        """Its process has left for good, as it was told."""
        self.poison: set[int] = set()
        """Steps that take the agent with them."""
        self.was_slow = False
        """Its network was, at some time."""
        self.replace_when_drained = False
        self.on_result: Callable[[], None] | None = None
        """What happens right after the next attempt has ended, before anybody else hears of it."""

    def mend_network(self) -> None:
        for weather in self.weathers.values():
            weather.mend()

    def boot(self) -> None:
        """A new process, if there is none."""
        if self.process is None and not self.drained:
            self.boots += 1
            self.process = AgentProcess(self, f"{self.spec.name}-{self.boots}")
            self.process.begin()

    def vanish(self) -> None:
        """It is gone with all that it had. What is booted here next is another machine."""
        self.crash()
        self.disk = Disk()
        self.spec = replace(self.spec, name=self.spec.name + "'")
        self.drained = False

    def replace(self) -> None:
        """Another agent is started in the place of the one that has left."""
        self.drained = False
        self.boot()

    def crash(self) -> None:
        """kill -9: the process and all that it started are gone."""
        if self.process is not None:
            self.process.crash()
            self.process = None
