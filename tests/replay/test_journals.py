"""Journals of former builds: this build folds them to the same states, and goes on with what they left under way."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.integration.runtime.conftest import World
from tests.replay.chronicles import JOURNALS, Folded, KeptRun, database_of, digest_of, load, state_of
from tests.replay.finishing import finish

from penstock_coordinator.core.run.events import Event
from penstock_coordinator.core.run.invariants import check_invariants
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.summary import unpack

CHRONICLES = sorted(JOURNALS.glob("*/*.json"))
LAST_RECORDED_TAG = 30
"""Of the events that the newest recorded build has."""


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture
async def old_world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


def test_every_kind_of_event_is_there() -> None:
    kinds = {kind for kind in typing.get_args(Event) if kind.__struct_config__.tag <= LAST_RECORDED_TAG}
    found: set[type] = set()
    for path in CHRONICLES:
        chronicle = load(path)
        specs = {version.digest: version.spec for version in chronicle.versions}
        for run in chronicle.runs:
            folded = Folded(specs, msgspec.convert(run.row["run_id"], bytes))
            for record in run.records:
                folded.add(record.first_seq, record.payload)
            found.update(type(event) for event in folded.events)
    assert kinds <= found
    assert len(kinds) == LAST_RECORDED_TAG


@pytest.mark.parametrize("path", CHRONICLES, ids=name_of)
def test_it_folds_to_the_same_states(path: Path) -> None:
    chronicle = load(path)
    specs = {version.digest: version.spec for version in chronicle.versions}
    for kept in chronicle.runs:
        folded = Folded(specs, msgspec.convert(kept.row["run_id"], bytes))
        digests = []
        for record in kept.records:
            folded.add(record.first_seq, record.payload)
            check_invariants(folded.run)
            digests.append(digest_of(state_of(folded.run)))
        assert state_of(folded.run) == kept.state
        assert digests == [record.digest for record in kept.records]
        check_summary(kept, folded.run)


def check_summary(kept: KeptRun, run: Run) -> None:
    """What the row says of a run at rest is read as it was meant."""
    if kept.row["summary"] is None or not run.at_rest:
        return
    summary = unpack(msgspec.convert(kept.row["summary"], bytes))
    for number, step in enumerate(run.plan.steps):
        if step.retired:
            continue
        assert summary.state_of(number) is run.state_of(number)
        items = run.items_of(number)
        assert [StepState(item) for item in summary.items_of(number) or b""] == [
            StepState(item) for item in items or b""
        ]


@pytest.mark.parametrize("path", CHRONICLES, ids=name_of)
async def test_what_was_under_way_goes_on(path: Path, old_world: World) -> None:
    old_world.database = database_of(load(path))
    coordinator = await old_world.coordinator()
    assert not coordinator.supervisor.set_aside
    ended = await finish(coordinator, old_world.database)
    assert all(state.at_rest for state in ended.values()), ended
