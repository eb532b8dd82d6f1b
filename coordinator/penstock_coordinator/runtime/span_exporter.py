"""Sends the spans of sampled runs, as their journals tell of them.

Nothing of it is on the path of a step: a commit only notes that the run has news. The journal is the buffer. A pass
reads what came since the last one, for many runs in one query, and reads no more while a receiver takes nothing: it is
asked again after pauses that grow, or when it says. What it refuses for ever is dropped, and counted. What
was sent is known in memory alone: after a crash, and of runs that come from another owner, the journal is sent from its
beginning, with the same ids and the same content, and so are runs that ended shortly before.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from penstock_coordinator.core.run.events import RunReopened, RunStarted, decode
from penstock_coordinator.core.traces.ids import trace_of
from penstock_coordinator.core.traces.spans import RunSpans, Span, TracedRun
from penstock_coordinator.ports import EndedRuns, RunId, RunRow, SpansRefused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.ports import SpanSink, StoredRecord
    from penstock_coordinator.runtime.supervisor import Supervisor
    from penstock_coordinator.runtime.traces import Traces

RUNS_OF_A_PASS = 500
RECORDS = 1_000
"""Of one query."""
RECORDS_OF_A_TURN = 32
"""Then others get theirs."""
MOST_FOLDED = 20_000
"""Runs that are folded as far as they were sent. What is pushed out is folded again when it has news."""
BEFORE_THE_START = 5 * 60 * 1_000_000
"""Runs that ended so long ago, in microseconds, may not have been sent by who was there before."""
OLDEST = 24 * 3_600 * 1_000_000
"""Of those, runs that began earlier are not looked for."""

LONGEST_BACKOFF = 60.0
"""Seconds, or those between two passes if they are more."""
LONGEST_ASKED = 3_600.0
"""Seconds that a receiver is waited for because it says so."""
JITTER = 0.2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExportPace:
    seconds: float = 5.0
    """Between two passes."""
    batch: int = 512
    """Spans of one call."""

    def pause(self, failures: int, asked: int | None, chance: float) -> float:
        """Seconds, after so many passes in a row that something was away for. `asked`: microseconds that it asked for
        itself; `chance` in [0, 1)."""
        if not failures:
            return self.seconds
        if asked is not None:
            return max(min(asked / 1e6, LONGEST_ASKED), self.seconds)
        most = max(LONGEST_BACKOFF, self.seconds)
        return min(self.seconds * 2.0 ** min(failures, 16), most) * (1 + JITTER * (2 * chance - 1))


class _Traced(NamedTuple):
    trace_id: bytes
    spans: RunSpans


class SpanExporter:
    def __init__(self, supervisor: Supervisor, traces: Traces, sink: SpanSink, pace: ExportPace) -> None:
        self._supervisor = supervisor
        self._traces = traces
        self._sink = sink
        self._pace = pace
        self._folded: OrderedDict[RunId, _Traced] = OrderedDict()
        self._sent: dict[RunId, int] = {}
        """Of runs that live on: the last event whose spans were sent, for who has to be folded again."""
        self._unsent: list[tuple[bytes, Span]] = []
        self._failures = 0
        """Passes in a row that something was away for."""
        self._asked: int | None = None
        """Microseconds that it asked to be left alone for."""
        self._refused, self._refusal = 0, ""

    async def run(self) -> None:
        """For ever."""
        await self._remember_ended()
        while True:
            chance = self._supervisor.ids.jitter()
            await asyncio.sleep(self._pace.pause(self._failures, self._asked, chance))
            try:
                await self.run_once()
            except Exception:
                log.exception("traces_failed")

    async def run_once(self) -> int:
        """Everything that there is news of, unless something is away: then the rest is for the next pass. How many
        spans were sent."""
        count = 0
        try:
            count += await self._send()
            while run_ids := self._traces.take(RUNS_OF_A_PASS):
                count += await self._export(run_ids)
        except Unavailable as error:
            if not self._failures:
                log.warning("traces_postponed", reason=str(error))
            self._failures, self._asked = self._failures + 1, error.retry_after
        else:
            if self._failures:
                log.info("traces_go_on")
            self._failures = 0
        finally:
            self._tell_refused()
        return count

    async def close(self, seconds: float) -> None:
        """What there is is sent, if it takes no longer."""
        try:
            await asyncio.wait_for(self.run_once(), seconds)
        except TimeoutError:
            log.warning("traces_left_behind", reason="the receiver did not take them in time")
        except Exception:
            log.exception("traces_failed")  # No reason for the coordinator to end otherwise than without traces.
        finally:
            await self._sink.aclose()

    async def _remember_ended(self) -> None:
        """Those whose last spans may not have been sent before this process was there."""
        stores, now = self._supervisor.stores, self._supervisor.clock.now()
        after, which = _id_from(now - OLDEST), EndedRuns(ended_from=now - BEFORE_THE_START)
        try:
            while page := await stores.retention.ended_runs(which, after, RECORDS):
                after = page[-1]
                await self._remember(page)
        except Unavailable as error:
            log.warning("ended_traces_not_looked_for", reason=str(error))
        except Exception:
            log.exception("traces_failed")

    async def _remember(self, run_ids: Sequence[RunId]) -> None:
        stores = self._supervisor.stores
        for row in await stores.runs.get_many(run_ids):
            if self._traces.samples(row.run_id, row.trace_context):
                self._traces.note(row.run_id)
        after = bytes(16)
        while below := await stores.retention.children(run_ids, after, RECORDS):
            after = below[-1]
            await self._remember(below)

    # --- from the journal to spans

    async def _export(self, run_ids: list[RunId]) -> int:
        count = 0
        try:
            await self._begin([run_id for run_id in run_ids if run_id not in self._folded])
            known = [(run_id, self._folded[run_id].spans.last_seq) for run_id in run_ids if run_id in self._folded]
            while known:
                page = await self._supervisor.stores.journal.read_since(known, RECORDS)
                await self._fold(page)
                while len(self._unsent) >= self._pace.batch:
                    count += await self._send_batch()
                if len(page) < RECORDS:
                    break
                known = [(run_id, self._folded[run_id].spans.last_seq) for run_id, _ in known if run_id in self._folded]
            count += await self._send()
        except BaseException:
            # Unavailable, or this pass was given up: the next one goes on.
            for run_id in run_ids:
                self._traces.note(run_id)
            raise
        for run_id in run_ids:
            self._rest(run_id)
        while len(self._folded) > MOST_FOLDED:
            run_id, traced = self._folded.popitem(last=False)
            self._sent[run_id] = traced.spans.last_seq
        return count

    async def _begin(self, run_ids: list[RunId]) -> None:
        for row in await self._supervisor.stores.runs.get_many(run_ids) if run_ids else ():
            try:
                plan = await self._supervisor.plans.get(await self._first_version(row))
            except Unavailable:
                raise
            except Exception as error:
                # It cannot be read by this release, as others say too. All other runs have their traces.
                log.debug("trace_not_made", run=row.run_id.hex(), exc_info=error)
                continue
            trace = trace_of(row.run_id, row.trace_context)
            name = str(uuid.UUID(bytes=row.run_id))
            run = TracedRun(row.run_id, name, row.pipeline, row.version_number, trace.parent)
            spans = RunSpans(run, plan)
            if (at := self._traces.taken_over(row.run_id)) is not None:
                spans.taken_over(at, self._supervisor.coordinator_id, self._supervisor.epoch)
            self._folded[row.run_id] = _Traced(trace.trace_id, spans)

    async def _first_version(self, row: RunRow) -> str:
        if row.generation == 1:
            return row.version_digest
        for record in await self._supervisor.stores.journal.read(row.run_id, 1, 1):
            for event in decode(record.payload):
                if isinstance(event, RunStarted):
                    return event.version_digest
        raise KeyError(row.run_id)

    async def _fold(self, page: Sequence[tuple[RunId, StoredRecord]]) -> None:
        for number, (run_id, record) in enumerate(page):
            traced = self._folded.get(run_id)
            if traced is None:
                continue
            try:
                await self._fold_record(run_id, traced, record)
            except Unavailable:
                raise
            except Exception as error:
                # Its trace stays as it is; those of others go on.
                log.warning("trace_not_made", run=run_id.hex(), exc_info=error)
                del self._folded[run_id]
            if number % RECORDS_OF_A_TURN == RECORDS_OF_A_TURN - 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _fold_record(self, run_id: RunId, traced: _Traced, record: StoredRecord) -> None:
        trace_id, spans = traced
        sent = self._sent.get(run_id, 0)
        for seq, event in enumerate(decode(record.payload), record.first_seq):
            if seq > spans.last_seq:
                if type(event) is RunReopened and event.version_digest != spans.plan.digest:
                    spans.plan = await self._supervisor.plans.onto(spans.plan, event.version_digest)
                found = spans.add(seq, event)
                if found and seq > sent:
                    self._unsent += [(trace_id, span) for span in found]

    def _rest(self, run_id: RunId) -> None:
        traced = self._folded.get(run_id)
        if traced is None:
            return
        if traced.spans.ended:
            # Opened again, it is folded from its beginning.
            del self._folded[run_id]
            self._traces.forget(run_id)
            self._sent[run_id] = traced.spans.last_seq
            while len(self._sent) > MOST_FOLDED:
                del self._sent[next(iter(self._sent))]
        else:
            self._folded.move_to_end(run_id)

    # --- from spans to the receiver

    async def _send(self) -> int:
        count = 0
        while self._unsent:
            count += await self._send_batch()
        return count

    async def _send_batch(self) -> int:
        """How many of them arrived. What is refused for ever does not hold up those behind it."""
        batch = self._unsent[: self._pace.batch]
        taken = len(batch)
        try:
            await self._sink.send(batch)
        except SpansRefused as refusal:
            refused = max(0, min(refusal.count, len(batch)))  # a receiver's own count
            taken -= refused
            self._refused, self._refusal = self._refused + refused, str(refusal)
            self._supervisor.counts.spans.refused += refused
        self._supervisor.counts.spans.sent += taken
        del self._unsent[: len(batch)]
        return taken

    def _tell_refused(self) -> None:
        """A line of a pass, not of each batch."""
        if self._refused:
            log.warning("traces_refused", spans=self._refused, reason=self._refusal)
            self._refused = 0


def _id_from(at: int) -> RunId:
    """Before those of all runs that began at the instant, in microseconds: ids begin with it, in milliseconds."""
    return max(at // 1_000, 0).to_bytes(6, "big") + bytes(10)
