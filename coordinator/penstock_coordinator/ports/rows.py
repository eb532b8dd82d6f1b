"""What records bring to the rows of runs, step runs and attempts."""

from __future__ import annotations

import msgspec

from penstock_coordinator.ports.artifact_index import UseRow
from penstock_coordinator.ports.common import RunId


class Parent(msgspec.Struct, frozen=True, gc=False):
    """The step run that a run is the sub-pipeline of."""

    run_id: RunId
    step: int
    item: int


class Origin(msgspec.Struct, frozen=True, gc=False):
    """How a run was asked for, beyond its pipeline and its parameters. Never changes."""

    priority: int = 0
    weight: float = 1.0
    run_key: str = ""
    parent: Parent | None = None
    depth: int = 0
    """How many runs are above it."""
    cache: int = 1
    """What it makes of the cache policies of its steps: a penstock.v1.CacheMode."""


PLAIN_ORIGIN = Origin()
"""Of most runs, which share it."""


class NewRun(msgspec.Struct, frozen=True, gc=False):
    """The row that a run's first record brings with it."""

    pipeline: str
    version_number: int
    version_digest: str
    parameters: bytes
    labels: tuple[tuple[str, str], ...]
    trace_context: tuple[tuple[str, str], ...]
    create_time: int
    owner: str
    state: int
    """With all that the record itself made of the run: it may even be at rest already."""
    reason: str = ""
    start_time: int | None = None
    end_time: int | None = None
    summary: bytes | None = None
    origin: Origin = PLAIN_ORIGIN
    output: bytes | None = None
    only_if_newest: bool = False
    """Stored only if the version is still the newest of its pipeline. Needs a request in the record."""
    uses: tuple[UseRow, ...] = ()
    """Artifacts that the parameters refer to."""


class RunChange(msgspec.Struct, frozen=True, gc=False):
    """What a record changes of the run's row; not in the record that brings the row. None: as it was."""

    state: int
    reason: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    summary: bytes | None = None
    """States of all step runs, packed, once the run is at rest."""
    output: bytes | None = None
    """JSON of the run's output, once it is COMPLETED."""
    generation: int | None = None
    """A new one was opened: the end, the summary and the output of the former are taken out of the row, but for what
    this change brings itself."""
    version_number: int | None = None
    version_digest: str | None = None
    """The run goes on with another version of its pipeline."""
    parameters: bytes | None = None
    """With those that the other version has besides."""


class StepRunRow(msgspec.Struct, frozen=True, gc=False):
    """A step run at rest that had an attempt, or that failed. Written once per generation."""

    step: int
    item: int
    generation: int
    state: int
    attempts: int
    output: bytes | None
    failure: bytes | None
    """MessagePack of a failure with its trace, see `runtime.projection`."""
    agent: str
    ready_time: int | None
    start_time: int | None
    end_time: int
    source: bytes | None = None
    """Of one that was answered from the cache: MessagePack of where the value came from, see `runtime.projection`."""


class AttemptRow(msgspec.Struct, frozen=True, gc=False):
    """An attempt that ended."""

    step: int
    item: int
    number: int
    token: int
    outcome: int
    agent: str
    start_time: int
    end_time: int
    detail: bytes
    """What it cost, see `ports.costs`, and MessagePack of what it reported of itself, see `runtime.projection`."""
