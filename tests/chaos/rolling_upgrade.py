"""A rolling upgrade: coordinators of an older build are replaced one by one, under load, with agents connected.

    python -m tests.chaos.rolling_upgrade --from REVISION [--runs 300]

Two coordinators and four agents run the code of the revision, which is checked out in a folder of its own, with the
libraries of this environment. The one that follows is stopped and started with the code that is here, then the owner;
agents stay as they are. Runs are started before, between and after. With the auditors of the chaos test: no run is lost
or stuck, nothing is committed twice, and no step runs more than once but for failures that it planned.

Exit code: 0 if all that holds; 1 else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
from tests.chaos import ledger
from tests.chaos.checking import Check
from tests.chaos.journal import Reader
from tests.chaos.world import World
from tests.chaos.writers import Write, problems
from tests.rig.parts import send, until

CHECKOUT = Path(__file__).parents[2]
PARTS = ("coordinator", "agent", "sdk")
PATIENCE = 300.0
ROUND = 1
WORK_BEFORE = 2
"""Records per run, before a coordinator is stopped."""


@contextlib.contextmanager
def build_of(revision: str, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of processes that run its code."""
    subprocess.run(["git", "-C", CHECKOUT, "worktree", "add", "-q", "--detach", folder, revision], check=True)
    try:
        yield running(folder)
    finally:
        subprocess.run(["git", "-C", CHECKOUT, "worktree", "remove", "--force", folder], check=True)


def running(checkout: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(str(checkout / part) for part in PARTS)}


class Upgrade:
    def __init__(self, world: World, runs: int) -> None:
        self._world = world
        self._runs = runs
        self._ledger = world.folder / "round.ledger"
        self._accepted = world.folder / "round.accepted"
        self._orders = 0

    def play(self) -> dict[str, Any]:
        schema = self._value("select version_num from alembic_version")
        for role in ("follower", "owner"):
            self._work()
            self._replace(role)
        self._work()
        until(lambda: not self._world.starter.busy and self._live() == 0, PATIENCE, "the ends of all runs")
        result = asyncio.run(self._reckon())
        return {**result, "schema_before": schema, "schema": self._value("select version_num from alembic_version")}

    def _work(self) -> None:
        """More of it, and some of it done."""
        before = self._value("select count(*) from run_events")
        self._orders += 1
        self._world.starter.start(
            round=ROUND,
            count=self._runs,
            slow=0.1,
            ledger=str(self._ledger),
            accepted=str(self._accepted),
            seed=f"upgrade:{self._orders}",
        )
        due = before + WORK_BEFORE * self._runs
        until(lambda: self._value("select count(*) from run_events") >= due, PATIENCE, "some work")

    def _replace(self, role: str) -> None:
        owner = str(self._value("select coordinator_id from coordinators where state = 1"))
        others = [name for name in self._world.coordinators if name != owner]
        name = owner if role == "owner" else others[0]
        part, live = self._world.coordinators[name], self._live()
        starts = part.starts
        part.become(running(CHECKOUT))
        send(part.pid, signal.SIGTERM)
        until(lambda: part.starts > starts and part.is_ready(), PATIENCE, f"{name} in its new build")
        now = self._value("select coordinator_id from coordinators where state = 1")
        print(f"{role} {name} was replaced with {live} live runs; {now} owns them", flush=True)

    def _live(self) -> int:
        return int(self._value("select count(*) from runs where end_time is null"))

    def _value(self, text: str) -> Any:
        async def ask() -> Any:
            connection = await asyncpg.connect(self._world.server.dsn)
            try:
                return await connection.fetchval(text)
            finally:
                await connection.close()

        return asyncio.run(ask())

    async def _reckon(self) -> dict[str, Any]:
        check = Check((), ledger.read(self._ledger), self._world.times)
        run_ids = self._accepted.read_text().split()
        async with Reader(self._world.server.dsn) as reader:
            check.acknowledged(run_ids, await reader.runs_of(ROUND))
            stories = await reader.stories(list(dict.fromkeys(run_ids)))
            writes = await reader.writes(ROUND)
        for story in stories:
            check.run(story)
        verdict = check.verdict
        return {
            "runs_accepted": verdict.accepted,
            "runs_completed": verdict.completed,
            "steps": verdict.steps,
            "executions": verdict.executions,
            "planned_failures": verdict.planned,
            "nobody_wrote_for_s": gaps(writes),
            "problems": verdict.problems + problems(writes),
        }


def gaps(writes: list[Write]) -> list[float]:
    """From the last record of an owner to the first of the next one, in seconds."""
    epochs = sorted({write.epoch for write in writes})
    last = {epoch: max(write.at for write in writes if write.epoch == epoch) for epoch in epochs}
    first = {epoch: min(write.at for write in writes if write.epoch == epoch) for epoch in epochs}
    return [round((first[after] - last[before]) / 1e6, 3) for before, after in pairwise(epochs)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="revision", required=True, help="the build that is replaced: a commit of git")
    parser.add_argument("--runs", type=int, default=300, help="started each time: before, between and after")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-upgrade-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        before = stack.enter_context(build_of(parsed.revision, folder / "build"))
        (folder / "world").mkdir()
        world = stack.enter_context(World(folder / "world", 4, coordinators=2, build=before))
        result = Upgrade(world, parsed.runs).play()
    print(json.dumps({"from": parsed.revision, **result}))
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
