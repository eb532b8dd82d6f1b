"""Where an artifact came from, and what came of it: step runs with what they took and made, step by step away from it.

Within a run a step run took what that run made, if it made these bytes; else the newest that there was by then. The
same bytes that two runs made are one thing to whoever took them: by their digest nobody can tell which was meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.ports import Artifact, ArtifactIndex, ArtifactUse, RunId, WorkRow

MOST_STEPS = 1_000
PAGE = 2_000

_Key: TypeAlias = "tuple[RunId, int, int, int]"
"""(run id, step, item, token)"""


@dataclass(slots=True)
class LineageStep:
    """An attempt, and as much of what it took and made as belongs to the lineage."""

    depth: int
    run_id: RunId
    work: WorkRow
    version_number: int
    at: int
    inputs: list[tuple[str, str]] = field(default_factory=list)
    """(name, digest)"""
    made: list[Artifact] = field(default_factory=list)


@dataclass(slots=True)
class Lineage:
    steps: list[LineageStep] = field(default_factory=list)
    """Nearest first."""
    truncated: bool = False
    """There is more, further away."""


class Tracer:
    def __init__(self, index: ArtifactIndex) -> None:
        self._index = index

    async def up(self, artifact: Artifact, depth: int) -> Lineage:
        """What it was made from. Raises `Unavailable`."""
        lineage, seen = Lineage(), dict[_Key, LineageStep]()
        level = [artifact]
        for away in range(1, depth + 1):
            steps = [step for each in level if (step := _maker(each, away, seen)) is not None]
            above: list[Artifact] = []
            for step in steps:
                if len(lineage.steps) == MOST_STEPS:
                    lineage.truncated = True
                    return lineage
                work = step.work
                uses = await self._index.uses_of(step.run_id, work.step, work.item, work.token)
                step.inputs = [(use.row.input, use.row.digest) for use in uses]
                lineage.steps.append(step)
                above += await self._sources(uses)
            level = above
            if not level:
                return lineage
        lineage.truncated = any(_key(each.run_id, each.row.work) not in seen for each in level)
        return lineage

    async def _sources(self, uses: list[ArtifactUse]) -> list[Artifact]:
        """The artifacts that were most likely meant."""
        found: dict[str, Artifact] = {}
        wanted = {use.row.digest: use for use in uses}
        for made in await self._index.makers_of(list(wanted), PAGE) if wanted else []:
            use = wanted[made.row.digest]
            former = found.get(made.row.digest)
            if made.row.at > use.row.at:
                continue
            if former is None or (made.run_id == use.run_id and former.run_id != use.run_id):
                found[made.row.digest] = made
        return list(found.values())

    async def down(self, artifact: Artifact, depth: int) -> Lineage:
        """What took it, and what those made. Raises `Unavailable`."""
        lineage, seen = Lineage(), set[_Key]()
        digests, known = {artifact.row.digest}, {artifact.row.digest}
        for away in range(1, depth + 1):
            uses = await self._index.users_of(digests, PAGE)
            lineage.truncated = lineage.truncated or len(uses) == PAGE
            steps = [step for step in _takers(uses, away) if _key(step.run_id, step.work) not in seen]
            digests = set()
            for step in steps:
                if len(lineage.steps) == MOST_STEPS:
                    lineage.truncated = True
                    return lineage
                seen.add(_key(step.run_id, step.work))
                work = step.work
                step.made = await self._index.made_by(step.run_id, work.step, work.item, work.token)
                lineage.steps.append(step)
                digests |= {made.row.digest for made in step.made} - known
            known |= digests
            if not digests:
                return lineage
        lineage.truncated = lineage.truncated or bool(await self._index.users_of(digests, 1))
        return lineage


def _maker(artifact: Artifact, depth: int, seen: dict[_Key, LineageStep]) -> LineageStep | None:
    """The step run that made it; None if it is among those seen, which then made this too."""
    work = artifact.row.work
    key = _key(artifact.run_id, work)
    there = seen.get(key)
    if there is not None:
        if all(artifact.place != each.place for each in there.made):
            there.made.append(artifact)
        return None
    step = LineageStep(depth, artifact.run_id, work, artifact.version_number, artifact.row.at, made=[artifact])
    seen[key] = step
    return step


def _takers(uses: Iterable[ArtifactUse], depth: int) -> list[LineageStep]:
    found: dict[_Key, LineageStep] = {}
    for use in uses:
        key = _key(use.run_id, use.row.work)
        step = found.get(key)
        if step is None:
            step = found[key] = LineageStep(depth, use.run_id, use.row.work, use.version_number, use.row.at)
        step.inputs.append((use.row.input, use.row.digest))
    return list(found.values())


def _key(run_id: RunId, work: WorkRow) -> _Key:
    return run_id, work.step, work.item, work.token
