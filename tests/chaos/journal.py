"""What the journal says, read past Penstock: straight from the database."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
from tests.chaos.ledger import Key
from tests.chaos.writers import WRITES, Write

from penstock_coordinator.adapters.postgres.connections import Database
from penstock_coordinator.adapters.postgres.pipeline_store import PostgresPipelineStore
from penstock_coordinator.core.run.events import (
    AttemptFailed,
    Event,
    LeaseLost,
    RunStarted,
    StepCompleted,
    StepFailed,
    StepsLeased,
    decode,
)
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.plans import PlanCache

PAGE = 200


@dataclass(slots=True)
class Grant:
    """A lease, and what became of it."""

    token: int
    attempt: int
    agent: str
    at: int
    """Microseconds since 1970."""
    fate: str = ""
    """"completed", "failed: …", or "lost: …"."""
    charge: int = -1
    fate_at: int = 0


@dataclass(slots=True)
class RunStory:
    run_id: str
    state: RunState | None
    """By its row."""
    at_rest: bool = False
    """By its journal."""
    reason: str = ""
    grants: defaultdict[Key, list[Grant]] = field(default_factory=lambda: defaultdict(list))
    outputs: dict[Key, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    leases: set[tuple[str, int]] = field(default_factory=set)
    """The records that grant some, by the run and their first event's number."""

    def say(self, problem: str) -> None:
        self.problems.append(f"run {self.run_id}: {problem}")


class Reader:
    """Reads the stories of runs. Use it in one event loop."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def __aenter__(self) -> Reader:
        self._database = await Database.open(self._dsn, "chaos", 2, 60.0)
        self._plans = PlanCache(PostgresPipelineStore(self._database, self._database))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._database.aclose()

    async def runs_of(self, round_number: int) -> list[str]:
        """The ids of all runs that the database has of the round."""
        rows = await self._database.fetch(RUNS, f"round={round_number}")
        return [str(uuid.UUID(bytes=row["run_id"])) for row in rows]

    async def live(self) -> int:
        """How many runs are not at rest."""
        found: int = await self._database.fetch_value("select count(*) from runs where end_time is null")
        return found

    async def writes(self, round_number: int) -> list[Write]:
        """By whom each record of the round's runs was written, by run and number."""
        rows = await self._database.fetch(WRITES, f"round={round_number}")
        return [
            Write(str(uuid.UUID(bytes=row["run_id"])), row["first_seq"], row["writer"], row["epoch"], row["at"])
            for row in rows
        ]

    async def stories(self, run_ids: Sequence[str]) -> list[RunStory]:
        found: list[RunStory] = []
        for at in range(0, len(run_ids), PAGE):
            found += await self._page(run_ids[at : at + PAGE])
        return found

    async def _page(self, run_ids: Sequence[str]) -> list[RunStory]:
        ids = [uuid.UUID(run_id).bytes for run_id in run_ids]
        rows = await self._database.fetch("select run_id, state from runs where run_id = any($1::uuid[])", ids)
        states = {row["run_id"]: RunState(row["state"]) for row in rows}
        records: defaultdict[bytes, list[asyncpg.Record]] = defaultdict(list)
        for row in await self._database.fetch(EVENTS, ids):
            records[row["run_id"]].append(row)
        outputs: defaultdict[bytes, list[asyncpg.Record]] = defaultdict(list)
        for row in await self._database.fetch(OUTPUTS, ids):
            outputs[row["run_id"]].append(row)
        return [await self._story(each, states.get(each), records[each], outputs[each]) for each in ids]

    async def _story(
        self, run_id: bytes, state: RunState | None, records: list[asyncpg.Record], outputs: list[asyncpg.Record]
    ) -> RunStory:
        story = RunStory(str(uuid.UUID(bytes=run_id)), state)
        run: Run | None = None
        due = 1
        told = Telling(story)
        for record in records:
            if record["first_seq"] != due:
                story.say(f"event {due} is missing")
            due = record["last_seq"] + 1
            for seq, event in enumerate(decode(record["payload"]), record["first_seq"]):
                if run is None:
                    assert isinstance(event, RunStarted)
                    run = Run(await self._plans.get(event.version_digest), run_id)
                    told.names = [step.name for step in run.plan.steps]
                evolve(run, seq, event)
                if isinstance(event, StepsLeased):
                    story.leases.add((story.run_id, record["first_seq"]))
                told.hear(seq, event)
        if run is not None:
            story.at_rest = run.at_rest
            if state is not None and (state is not run.state or state.at_rest is not run.at_rest):
                story.say(f"its row says {state.name}, its journal {run.state.name}")
            for row in outputs:
                key = told.key(row["step"], row["item"])
                if key in story.outputs:
                    story.say(f"{key[1]} {key[2]} has two rows")
                story.outputs[key] = row["output"].decode() if row["output"] else ""
        return story


EVENTS = (
    "select run_id, first_seq, last_seq, payload from run_events where run_id = any($1::uuid[])"
    " order by run_id, first_seq"
)
RUNS = "select run_id from runs where $1 = any(labels)"
OUTPUTS = "select run_id, step, item, output from step_runs where run_id = any($1::uuid[]) and item >= -1"


class Telling:
    """Follows the leases of one run."""

    def __init__(self, story: RunStory, names: Sequence[str] = ()) -> None:
        self._story = story
        self.names = names
        """Of the steps, by number."""
        self._settled: set[Key] = set()

    def key(self, step: int, item: int) -> Key:
        return self._story.run_id, self.names[step], "None" if item < 0 else str(item)

    def forget(self, key: Key) -> None:
        """As if nothing of it had been heard."""
        self._settled.discard(key)

    def hear(self, seq: int, event: Event) -> None:
        match event:
            case StepsLeased():
                for step, item, attempt in event.leases:
                    self._leased(self.key(step, item), Grant(seq, attempt, event.agent, event.at))
            case StepCompleted():
                self._settle(self.key(event.step, event.item), event.token, "completed", event.at)
            case StepFailed():
                key = self.key(event.step, event.item)
                self._settled.add(key)
                self._story.reason = f"{key[1]} {event.failure.reason}: {event.failure.message}"
            case AttemptFailed():
                what = f"failed: {event.failure.reason}/{event.failure.error_class}"
                self._end(self.key(event.step, event.item), event.token, what, event.at)
            case LeaseLost():
                grant = self._end(self.key(event.step, event.item), event.token, f"lost: {event.cause}", event.at)
                if grant is not None:
                    grant.charge = int(event.charge)
            case _:
                pass

    def _leased(self, key: Key, grant: Grant) -> None:
        before = self._story.grants[key]
        if key in self._settled:
            self._story.say(f"{key[1]} {key[2]} was leased after its end, token {grant.token}")
        if before and not before[-1].fate:
            self._story.say(f"{key[1]} {key[2]} was leased while it was leased, token {grant.token}")
        before.append(grant)

    def _settle(self, key: Key, token: int, fate: str, at: int) -> None:
        if key in self._settled:
            self._story.say(f"{key[1]} {key[2]} was committed twice, token {token}")
        self._settled.add(key)
        self._end(key, token, fate, at)

    def _end(self, key: Key, token: int, fate: str, at: int) -> Grant | None:
        grants = self._story.grants[key]
        if not grants or grants[-1].token != token:
            self._story.say(f"{key[1]} {key[2]} {fate}: token {token} is not the newest")
            return None
        if grants[-1].fate:
            self._story.say(f"{key[1]} {key[2]} {fate}: token {token} had ended before, {grants[-1].fate}")
        grants[-1].fate, grants[-1].fate_at = fate, at
        return grants[-1]
