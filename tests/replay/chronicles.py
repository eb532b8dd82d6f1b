"""Databases of former builds as they were at one moment: their journals, and what their states were folded to.

A chronicle is a JSON file; bytes are base64 in it. What the format means never changes; fields may be added, with a
default. See README.md for the fields.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.adapters.memory.database import KeptPipeline, MemoryDatabase
from penstock_coordinator.core.plan.compile import compile_onto, compile_plan
from penstock_coordinator.core.plan.model import Plan
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.events import Event, RunReopened, RunStarted, decode
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.view import describe
from penstock_coordinator.ports import AgentRow, AttemptRow, RunRow, StepRunRow, StoredRecord, VersionRow

JOURNALS = Path(__file__).parent / "journals"


class KeptVersion(msgspec.Struct, omit_defaults=True):
    """A version of a pipeline, as it is stored."""

    pipeline: str
    number: int
    digest: str
    spec: bytes
    step_count: int
    create_time: int


class KeptRecord(msgspec.Struct, omit_defaults=True):
    """A record of a journal. `digest`: of the state after it, see `digest_of`."""

    first_seq: int
    last_seq: int
    at: int
    payload: bytes
    digest: str


class KeptRun(msgspec.Struct, omit_defaults=True):
    """A run's row, its records, the state after the last of them (see `state_of`), and the rows of its step runs and
    attempts, as they are stored."""

    row: dict[str, Any]
    records: list[KeptRecord]
    state: dict[str, Any]
    step_runs: list[dict[str, Any]] = []
    attempts: list[dict[str, Any]] = []


class Chronicle(msgspec.Struct, omit_defaults=True):
    """`build` says which build wrote it, `story` what happened."""

    build: str
    story: str
    versions: list[KeptVersion]
    runs: list[KeptRun]
    agents: list[dict[str, Any]] = []
    last_session_epoch: int = 0
    last_epoch: int = 0


def load(path: Path) -> Chronicle:
    return msgspec.json.decode(path.read_bytes(), type=Chronicle)


# --- what is written


def chronicle_of(database: MemoryDatabase, build: str, story: str) -> Chronicle:
    """The database as it is. Raises whatever a journal in it raises that cannot be folded."""
    versions = [version for pipeline in database.pipelines.values() for version in pipeline.versions]
    specs = {version.digest: version.spec for version in versions}
    return Chronicle(
        build=build,
        story=story,
        versions=[msgspec.convert(_built(version), KeptVersion) for version in versions],
        runs=[_kept_run(database, specs, row) for _, row in sorted(database.runs.items())],
        agents=[_built(row) for row in database.agents.values()],
        last_session_epoch=database.last_session_epoch,
        last_epoch=database.last_epoch,
    )


def _kept_run(database: MemoryDatabase, specs: dict[str, bytes], row: RunRow) -> KeptRun:
    folding = Folded(specs, row.run_id)
    records = []
    for _, record in sorted(database.records[row.run_id].items()):
        folding.add(record.first_seq, record.payload)
        digest = digest_of(state_of(folding.run))
        records.append(KeptRecord(record.first_seq, record.last_seq, record.at, record.payload, digest))
    return KeptRun(
        row=_built(row),
        records=records,
        state=state_of(folding.run),
        step_runs=[_built(each) for each in database.step_runs.get(row.run_id, {}).values()],
        attempts=[_built(each) for each in database.attempts.get(row.run_id, {}).values()],
    )


def _built(thing: Any) -> Any:
    return msgspec.to_builtins(thing)


# --- what is read


def database_of(chronicle: Chronicle) -> MemoryDatabase:
    """A database in memory that holds what the chronicle says."""
    database = MemoryDatabase(last_session_epoch=chronicle.last_session_epoch, last_epoch=chronicle.last_epoch)
    for version in chronicle.versions:
        row = msgspec.convert(_built(version), VersionRow)
        kept = database.pipelines.setdefault(row.pipeline, KeptPipeline(row.create_time))
        kept.versions.append(row)
        kept.latest = max(kept.latest, row.number)
    for each in chronicle.agents:
        agent = msgspec.convert(each, AgentRow)
        database.agents[agent.agent_id] = agent
    for run in chronicle.runs:
        _add_run(database, run)
    return database


def _add_run(database: MemoryDatabase, kept: KeptRun) -> None:
    row = msgspec.convert(kept.row, RunRow)
    run_id = row.run_id
    database.runs[run_id] = row
    database.records[run_id] = {
        record.first_seq: StoredRecord(record.first_seq, record.last_seq, record.payload, record.at)
        for record in kept.records
    }
    step_runs = [msgspec.convert(each, StepRunRow) for each in kept.step_runs]
    database.step_runs[run_id] = {(each.step, each.item, each.generation): each for each in step_runs}
    attempts = [msgspec.convert(each, AttemptRow) for each in kept.attempts]
    database.attempts[run_id] = {(each.step, each.item, each.number, each.token): each for each in attempts}


class Folded:
    """A run, record by record."""

    def __init__(self, specs: dict[str, bytes], run_id: bytes) -> None:
        self._specs = specs
        self._run_id = run_id
        self._run: Run | None = None
        self.events: list[Event] = []

    @property
    def run(self) -> Run:
        assert self._run is not None
        return self._run

    def add(self, first_seq: int, payload: bytes) -> None:
        for seq, event in enumerate(decode(payload), first_seq):
            self.events.append(event)
            if isinstance(event, RunStarted):
                self._run = Run(self._plan(event.version_digest, None), self._run_id)
            elif isinstance(event, RunReopened) and event.version_digest != self.run.plan.digest:
                self.run.plans = {event.version_digest: self._plan(event.version_digest, self.run.plan)}
            evolve(self.run, seq, event)

    def _plan(self, digest: str, former: Plan | None) -> Plan:
        spec = PipelineSpec.FromString(self._specs[digest])
        return compile_plan(spec, digest) if former is None else compile_onto(former, spec, digest)


# --- the state, in a form that outlives the classes that hold it


def digest_of(state: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(state, order="deterministic")).hexdigest()[:16]


def state_of(run: Run) -> dict[str, Any]:
    """What people and coordinators can see of a run, and what it will do next."""
    steps = [_step(run, number) for number in range(len(run.plan.steps)) if not run.plan.steps[number].retired]
    state = {
        "version": [*run.plan.lineage, run.plan.digest],
        "seq": run.seq,
        "generation": run.generation,
        "state": run.state.name,
        "reason": run.reason,
        "parameters": run.parameters.decode(),
        "times": [run.created_at, run.started_at, run.ended_at, run.deadline, run.admitted_at, run.resumed_at],
        "verdict": None if run.verdict is None else run.verdict.name,
        "stopping": [run.immediate, run.cancel_deadline],
        "held": run.held,
        "paused": run.paused,
        "first_failure": run.first_failure,
        "earlier_failure": run.earlier_failure,
        "children": sorted((*key, run_id.hex()) for key, run_id in run.children.items()),
        "given_up": sorted((run_id.hex(), why) for run_id, why in run.given_up.items()),
        "demand": [[line, run.demand(line)] for line in run.demanded_lines()],
        "next_deadline": next_deadline(run),
        "kept": sorted([step, [part.decode() for part in parts]] for step, parts in run.kept.items()),
        "steps": steps,
    }
    built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(state))
    return built


def _step(run: Run, step: int) -> dict[str, Any]:
    found = {"name": run.plan.steps[step].name, **_step_run(run, step, -1)}
    items = run.items_of(step)
    if items is not None:
        found["items"] = [
            {"place": run.display_name(step, item), **_step_run(run, step, item)} for item in range(len(items))
        ]
    return found


def _step_run(run: Run, step: int, item: int) -> dict[str, Any]:
    seen = describe(run, step, item)
    found = {
        "state": seen.state.name,
        "attempts": run.attempts_used(step, item),
        "ready": [seen.first_ready_at, seen.ready_at],
        "leased": [seen.first_leased_at, seen.leased_at],
        "holder": [seen.token, seen.session, seen.agent],
        "wait": seen.wait,
        "failure": seen.failure,
        "displaced": seen.displaced,
    }
    return {name: value for name, value in found.items() if value not in (None, 0, [None, None], [0, 0, ""])}
