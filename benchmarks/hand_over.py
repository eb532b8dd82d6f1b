"""How long nobody can append to a run when an owner is stopped and another coordinator takes its runs over.

    python -m benchmarks.hand_over [--runs 1000] [--repeat 3]

Two coordinators on a PostgreSQL of their own, two agents, and for each hand-over so many runs of twenty steps under
way. The owner gets SIGTERM, is started again and follows, and so on in turns. The instants are those of the
coordinators' logs and of the journal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
from tests.rig.parts import Agent, Coordinator, send, until

from penstock import pipeline, step
from penstock.client.sync import SyncClient, SyncRunHandle
from penstock.dev.postgres import EmbeddedPostgres
from penstock.v1 import coordinator_service_pb2 as pb
from penstock.v1 import run_pb2

STEPS = 20
PATIENCE = 300.0
LEASE = "10s"
WARM_RECORDS = 5
"""Of each run, before its hand-over: however fast the machine is, there is work left after it."""


@step
def count(n: int) -> int:
    return n + 1


@pipeline
def twenty() -> None:
    last: Any = 0
    for _ in range(STEPS):
        last = count(last)


class Pair:
    """Two coordinators and two agents."""

    def __init__(self, folder: Path, url: str, settings: Mapping[str, str]) -> None:
        self.coordinators: dict[str, Coordinator] = {}
        for name in ("c1", "c2"):
            place = folder / name
            (place / "coordinator").mkdir(parents=True)
            (place / "coordinator" / "coordinator-id").write_text(f"{name}\n")
            self.coordinators[name] = Coordinator(place, url, {"PENSTOCK_OWNERSHIP_LEASE": LEASE, **settings})
        self.addresses = ",".join(each.address for each in self.coordinators.values())
        self.agents = [Agent(f"agent-{number}", folder, self.addresses, slots=4) for number in (1, 2)]

    def roles(self) -> tuple[str, str] | None:
        """The owner and the one that follows it; None: there are none such now."""
        for name, coordinator in self.coordinators.items():
            with (
                contextlib.suppress(Exception),
                SyncClient(coordinator.address, deadline=2.0, retry_for=0.0) as client,
            ):
                found = {each.id: each.role for each in client.list_coordinators()}
                other = next(each for each in self.coordinators if each != name)
                if found.get(name) == pb.COORDINATOR_ROLE_OWNER and found.get(other) == pb.COORDINATOR_ROLE_FOLLOWER:
                    return name, other
        return None

    def settled(self) -> tuple[str, str]:
        """The roles, as soon as there are some."""
        found: list[tuple[str, str]] = []

        def look() -> bool:
            found.extend(filter(None, [self.roles()]))
            return bool(found)

        until(look, PATIENCE, "an owner and one that follows")
        return found[0]

    def said(self, name: str, event: str, after: float) -> float:
        """When it first said so after an instant; 0: it has not."""
        for line in self.coordinators[name].log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                at = datetime.fromisoformat(found["time"]).timestamp()
                if found["event"] == event and at > after:
                    return at
        return 0.0


@contextlib.contextmanager
def running(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[tuple[Pair, str]]:
    """On a PostgreSQL of their own, whose URL is given too; with more settings of the coordinators."""
    with contextlib.ExitStack() as stack:
        server = EmbeddedPostgres(folder / "postgres")
        server.start()
        stack.callback(server.stop)
        pair = Pair(folder, server.dsn, settings or {})
        for coordinator in pair.coordinators.values():
            coordinator.start()
            stack.callback(coordinator.stop)
            coordinator.wait_ready()
        for agent in pair.agents:
            agent.start()
            stack.callback(agent.stop)
        yield pair, server.dsn


def query(url: str, text: str, *arguments: Any) -> list[Any]:
    async def ask() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(text, *arguments))
        finally:
            await connection.close()

    return asyncio.run(ask())


def hand_over(pair: Pair, url: str) -> dict[str, float]:
    """Seconds from the signal, and the gap in milliseconds."""
    owner, follower = pair.settled()
    (live,) = query(
        url,
        "select count(*) as n, coalesce(sum(e.n), 0) as events from runs r cross join lateral"
        " (select count(*) as n from run_events where run_id = r.run_id) e where r.state < 6",
    )
    before = time.time()
    send(pair.coordinators[owner].pid, signal.SIGTERM)
    until(lambda: pair.said(follower, "recovered", before), PATIENCE, "a take-over")
    until(lambda: pair.said(owner, "ownership_released", before), PATIENCE, "a release")
    recovered = pair.said(follower, "recovered", before)
    owning = pair.said(follower, "owning", before)
    (last,) = query(url, "select max(at) as at from run_events where at < $1", int(owning * 1e6))
    until(lambda: query(url, "select 1 from run_events where at > $1 limit 1", int(recovered * 1e6)), PATIENCE, "work")
    (first,) = query(url, "select min(at) as at from run_events where at > $1", int(recovered * 1e6))
    # Of an owner that nobody had prepared for its last words are the release.
    ended = pair.said(owner, "handed_over", before) or pair.said(owner, "ownership_released", before)
    return {
        "live_runs": live["n"],
        "records": int(live["events"]),
        "prepared_s": (pair.said(owner, "successor_prepared", before) or before) - before,
        "last_append_s": last["at"] / 1e6 - before,
        "nothing_decided_s": ended - before,
        "released_s": pair.said(owner, "ownership_released", before) - before,
        "owning_s": owning - before,
        "claimed_s": pair.said(follower, "runs_claimed", before) - before,
        "recovered_s": recovered - before,
        "first_append_s": first["at"] / 1e6 - before,
        "gap_ms": (recovered - ended) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=3)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (pair, url):
        with SyncClient(pair.addresses) as client:
            runs = [run for _ in range(parsed.repeat) for run in in_turn(pair, url, client, parsed.runs)]
        ids = [uuid.UUID(run.id) for run in runs]
        (charged,) = query(
            url, "select count(*) from attempts where run_id = any($1) and (number > 1 or outcome <> 1)", ids
        )
        print(f"attempts above 1, or that failed: {charged['count']}")


def in_turn(pair: Pair, url: str, client: SyncClient, count: int) -> list[SyncRunHandle]:
    """One hand-over with so many live runs, until they have ended."""
    pair.settled()
    before = _records(url)
    runs = client.start_many(twenty, [{}] * count)
    until(lambda: _records(url) - before >= WARM_RECORDS * count, PATIENCE, "some work")
    figures = hand_over(pair, url)
    print(
        "  ".join(
            f"{name} {value:,.3f}" if name.endswith("_s") else f"{name} {value:,.0f}" for name, value in figures.items()
        ),
        flush=True,
    )
    assert {run.wait(PATIENCE).state for run in runs} == {run_pb2.RUN_STATE_COMPLETED}
    return runs


def _records(url: str) -> int:
    (found,) = query(url, "select count(*) from run_events")
    return int(found["count"])


if __name__ == "__main__":
    main()
