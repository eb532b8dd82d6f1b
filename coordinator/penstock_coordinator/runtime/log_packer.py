"""Takes lines out of PostgreSQL and into the artifact store, in packs.

A pack is begun with its name, which is written down; then its bytes are put under it; then, in one transaction, the
rows go and the pack is there. Whoever dies on the way, or is overtaken by another coordinator or by the removal of the
run, leaves the rows as they are, and a name that the janitor looks after. While the store is away lines stay in
PostgreSQL, up to a bound; past it no more are taken, and so the agents wait.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.log_packing import MadePack, make_pack

if TYPE_CHECKING:
    from penstock_coordinator.ports import ArtifactStore, Clock, Ids, LogPackStore, RunId

log = structlog.get_logger(__name__)

PACK_BYTES = 2 << 20
"""Of lines, before they are compressed: a reader holds those of one pack at a time."""
PACK_ROWS = 5_000
ROW_BYTES = PACK_BYTES
"""Of rows that are read at once, compressed each by itself."""
SMALLEST = 8 << 10
"""Bytes of rows. What a run has less than that stays in PostgreSQL: an object of its own would cost more."""
PASS_EVERY = 1.0
SURVEY_EVERY = 600.0
"""Seconds between two looks at all runs, for what another coordinator left, or this one before it was started again."""
SURVEY_PAGE = 200
MOST_KNOWN = 100_000
"""Runs with new lines; of others a survey tells."""
FIRST: RunId = bytes(16)

_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class PackPace:
    """A span in microseconds, and bytes of lines."""

    after: int = 60 * _SECOND
    """Lines are packed when there are enough for a pack, and at this age if there are enough for a small one."""
    backlog_bytes: int = 4 << 30


@dataclass(slots=True)
class _Fresh:
    size: int
    since: int


class LogPacker:
    """One per coordinator; several on one database do the work of one."""

    def __init__(
        self,
        packs: LogPackStore,
        objects: ArtifactStore,
        clock: Clock,
        ids: Ids,
        pace: PackPace | None = None,
        hold: Callable[[bool], None] = lambda held: None,
        *,
        surveys: bool = True,
    ) -> None:
        """`hold` is told whether too much waits for the store. `surveys`: it looks for what others left, too."""
        self._packs = packs
        self._objects = objects
        self._clock = clock
        self._ids = ids
        self._pace = pace or PackPace()
        self._hold = hold
        self._fresh: OrderedDict[RunId, _Fresh] = OrderedDict()
        """Runs with lines that may have to be packed."""
        self._away = self._holding = False
        self._surveys = surveys
        self._surveyed: int | None = None

    def wrote(self, run_id: RunId, size: int) -> None:
        """So many bytes of lines are rows now."""
        known = self._fresh.get(run_id)
        if known is not None:
            known.size += size
            return
        self._fresh[run_id] = _Fresh(size, self._clock.now())
        if len(self._fresh) > MOST_KNOWN:
            self._fresh.popitem(last=False)

    async def run(self) -> None:
        """For ever. What goes wrong is logged, and tried again."""
        while True:
            try:
                await self.run_once()
            except Exception:
                log.exception("log_packer_failed")
            await asyncio.sleep(PASS_EVERY)

    async def run_once(self, *, thorough: bool = False) -> int:
        """Pack what is due; how many packs there are more. A store that is away is asked again the next time."""
        made = 0
        try:
            if thorough or self._is_survey_due():
                await self._survey()
            for run_id in self._due():
                made += await self._pack_fresh(run_id)
        except Unavailable as error:
            self._tell_away(error)
        else:
            self._tell_back()
        self._hold_if_too_much()
        return made

    # --- what is due

    def _due(self) -> list[RunId]:
        old = self._clock.now() - self._pace.after
        return [run_id for run_id, fresh in self._fresh.items() if fresh.size >= PACK_BYTES or fresh.since <= old]

    def _is_survey_due(self) -> bool:
        every = int(SURVEY_EVERY * _SECOND)
        if not self._surveys:
            return False
        return self._surveyed is None or self._clock.monotonic() - self._surveyed >= every

    async def _survey(self) -> None:
        """Finds runs whose lines nobody here has heard of."""
        old = self._clock.now() - self._pace.after
        after: RunId | None = FIRST
        while after is not None:
            found, after = await self._packs.unpacked(after, SURVEY_PAGE)
            for unpacked in found:
                is_due = unpacked.since <= old or unpacked.size >= PACK_BYTES
                if unpacked.size >= SMALLEST and is_due and unpacked.run_id not in self._fresh:
                    self._fresh[unpacked.run_id] = _Fresh(unpacked.size, unpacked.since)
        self._surveyed = self._clock.monotonic()

    # --- packing

    async def _pack_fresh(self, run_id: RunId) -> int:
        fresh = self._fresh.pop(run_id)
        try:
            unpacked = await self._packs.unpacked_of(run_id)
            if unpacked is None or unpacked.size < SMALLEST:
                return 0
            old = fresh.since <= self._clock.now() - self._pace.after
            made = await self._pack_run(run_id, all_of_it=old)
        except BaseException:
            self._put_back(run_id, fresh)
            raise
        if not old:
            # What was not enough for a pack waits until it is, or is old.
            self._put_back(run_id, _Fresh(fresh.size % PACK_BYTES, self._clock.now()))
        return made

    def _put_back(self, run_id: RunId, fresh: _Fresh) -> None:
        newer = self._fresh.get(run_id)
        self._fresh[run_id] = _Fresh(fresh.size + (newer.size if newer else 0), fresh.since)

    async def _pack_run(self, run_id: RunId, *, all_of_it: bool) -> int:
        """Full packs, and the rest in one that is not if all of it is to go."""
        count = 0
        while True:
            made = await self._make(run_id)
            if made is None or (not made.is_full and not all_of_it):
                return count
            if not await self._store(made.content):
                return count
            count += 1
            if not made.is_full:
                return count

    async def _make(self, run_id: RunId) -> _Made | None:
        rows = await self._packs.oldest_rows(run_id, PACK_ROWS, ROW_BYTES)
        if not rows:
            return None
        name = f"logs/{run_id.hex()}/{rows[0].position:016x}-{self._ids.key().hex()[:16]}"
        content = await asyncio.to_thread(make_pack, run_id, name, rows, PACK_BYTES)
        cut = content.pack.rows < len(rows) or len(rows) == PACK_ROWS
        return _Made(content, cut or sum(len(row.lines) for row in rows) > ROW_BYTES * 3 // 4)

    async def _store(self, made: MadePack) -> bool:
        """False: somebody else has packed or removed these lines meanwhile."""
        pack = made.pack
        await self._packs.claim_name(pack.name, pack.run_id, self._clock.now())
        await self._objects.write_blob(pack.name, made.content)
        added = await self._packs.add_pack(pack, made.parts)
        if not added:
            log.info("log_pack_overtaken", run=pack.run_id.hex(), name=pack.name)
        return added

    # --- signs

    def _tell_away(self, error: Unavailable) -> None:
        if not self._away:
            log.warning("log_packs_postponed", reason=str(error))
        self._away = True

    def _tell_back(self) -> None:
        if self._away:
            log.info("log_packs_go_on")
        self._away = False

    def _hold_if_too_much(self) -> None:
        waiting = sum(fresh.size for fresh in self._fresh.values()) if self._away else 0
        hold = waiting > self._pace.backlog_bytes
        if hold and not self._holding:
            log.error("log_lines_held_up", bytes_waiting=waiting, remedy="bring the artifact store back")
        elif self._holding and not hold:
            log.info("log_lines_taken_again")
        if hold != self._holding:
            self._holding = hold
            self._hold(hold)


@dataclass(frozen=True, slots=True)
class _Made:
    content: MadePack
    is_full: bool
