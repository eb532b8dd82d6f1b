"""Measures how the process fares, at each look at its loop's lag, for those who decide what to accept."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.fleet.gate import DATABASE_AWAY
from penstock_coordinator.ports import DependencyState
from penstock_coordinator.runtime.admission import HIGH_SHARE, Strain
from penstock_coordinator.runtime.loop_lag import LoopLag

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

LAGS = 5
"""One long turn is no overload: of so many looks in a row the least counts."""
LOOKS_PER_TRIM = 50
LITTLE = 0.1
"""Of a bound: less lag than that may be looked at less often."""


class StrainGauge:
    """`measured` is looked at by whoever has it; without one the gauge has its own. `resident` tells the bytes of
    memory that the process has, `trim` gives back what it can to the system."""

    def __init__(
        self, supervisor: Supervisor, measured: LoopLag | None, resident: Callable[[], int], trim: Callable[[], object]
    ) -> None:
        self._supervisor = supervisor
        self._measured = measured
        self._resident = resident
        self._trim = trim
        self._lags: deque[float] = deque([0.0], maxlen=LAGS)
        self._over_memory = 0
        self._strained = ""

    async def run(self) -> None:
        """For ever, or until a look fails: then it raises what that raised, and others hear of the lag further on."""
        if self._measured is not None:
            await self._run_by(self._measured)
            return
        measured = LoopLag()
        measuring = asyncio.create_task(measured.run(), name="loop lag")
        try:
            await self._run_by(measured)
        finally:
            measuring.cancel()

    async def _run_by(self, measured: LoopLag) -> None:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look(lag: float, _now: float) -> bool:
            try:
                return self.look(lag)
            except Exception as error:
                if not failed.done():
                    failed.set_exception(error)
                return False

        with measured.told_to(look):
            await failed

    def look(self, lag: float) -> bool:
        """What is due came so many seconds late. Whether it wants to know of the next look too: something is
        refused, or a commit is under way, as with all that is begun."""
        admission = self._supervisor.admission
        self._lags.append(lag)
        admission.measure(
            Strain(min(self._lags) * 1e6 / admission.bounds.lag, self._commits(), self._memory()), self._away()
        )
        self._supervisor.fleet.hold_back(self._reason_to_pause())
        self._tell(admission.strain)
        return self._is_busy()

    def _is_busy(self) -> bool:
        admission = self._supervisor.admission
        strain = admission.strain
        refuses = bool(admission.away) or strain.memory >= HIGH_SHARE
        return refuses or strain.commits > 0.0 or strain.lag >= LITTLE

    def _reason_to_pause(self) -> str:
        """Why agents are to ask for nothing. Memory is none: it is freed by what ends."""
        admission = self._supervisor.admission
        if admission.away:
            return DATABASE_AWAY
        strain = max(admission.strain.lag, admission.strain.commits)
        over = strain >= (HIGH_SHARE / 2 if self._supervisor.fleet.paused else HIGH_SHARE)
        return "overloaded" if over else ""

    def _commits(self) -> float:
        bound = self._supervisor.admission.bounds.commit
        return max(max(lane.fill, lane.waiting * 1e6 / bound) for lane in self._supervisor.lanes)

    def _memory(self) -> float:
        """The first half of what may be used is no strain."""
        bound = self._supervisor.admission.bounds.memory
        if not bound:
            return 0.0
        strain = max(2 * self._resident() / bound - 1, 0.0)
        self._over_memory = self._over_memory + 1 if strain >= HIGH_SHARE else 0
        if self._over_memory % LOOKS_PER_TRIM == 1:
            # What was freed may still be the process's: without this it might refuse for ever.
            self._trim()
        return strain

    def _away(self) -> str:
        for each in self._supervisor.stores.dependencies():
            if each.name == "journal" and each.state is not DependencyState.CLOSED:
                return each.reason
        return ""

    def _tell(self, strain: Strain) -> None:
        """The operator, when it begins and when it is over."""
        worst, cause = strain.worst
        if worst >= HIGH_SHARE and not self._strained:
            self._strained = cause
            log.warning("overloaded", short=cause, lag=strain.lag, commits=strain.commits, memory=strain.memory)
        elif worst < HIGH_SHARE / 2 and self._strained:
            log.info("overload_over", short=self._strained)
            self._strained = ""
