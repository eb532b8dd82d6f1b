"""What the loss of Redis costs: steps per second with Redis and on PostgreSQL in its place, in turns, and the way back.

    python -m benchmarks.hot_state [--runs 200] [--repeat 3]

Two coordinators, two agents and runs of twenty steps. With Redis, it is flushed in the middle; without, it is killed or
hung as soon as the runs have started. It comes back when the next ones have started, so all of it happens under load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.rig.parts import until
from tests.valkey import ValkeyServer, running_valkey

from benchmarks.hand_over import PATIENCE, STEPS, Pair, query, running, twenty
from penstock.client.sync import SyncClient
from penstock.v1 import run_pb2

BOARD = "penstock:{penstock}:coordinators"
ON_REDIS, ON_POSTGRESQL = "redis", "postgresql"
WARM_RUNS = 20


class Site:
    """The pair and its Redis. Counts what becomes of the runs, and how many seconds the ways there and back take."""

    def __init__(self, pair: Pair, url: str, redis: ValkeyServer, client: SyncClient) -> None:
        self._pair = pair
        self._url = url
        self._redis = redis
        self._client = client
        self._run_ids: list[uuid.UUID] = []
        self._bring_back: Callable[[], object] | None = None
        """None: Redis is there."""
        self.moved: list[float] = []
        self.returned: list[float] = []
        self.published_again: list[float] = []
        """What was on the board, after Redis had been flushed."""

    def lose(self, way: Callable[[ValkeyServer], Callable[[], object]]) -> None:
        self._bring_back = way(self._redis)
        self.moved.append(self._seconds_until(lambda: self.all_on(ON_POSTGRESQL), "PostgreSQL for all"))

    def come_back(self) -> None:
        """If it was away. Then it is flushed."""
        if self._bring_back is not None:
            self._bring_back()
            self.returned.append(self._seconds_until(lambda: self.all_on(ON_REDIS), "Redis for all"))
        self._redis.ask("FLUSHALL")
        both = len(self._pair.coordinators)
        self.published_again.append(
            self._seconds_until(lambda: self._redis.ask("ZCARD", BOARD) == both, "the board of both")
        )

    def all_on(self, medium: str) -> bool:
        return all(self._medium(each.http_port) == medium for each in self._pair.coordinators.values())

    @staticmethod
    def _medium(port: int) -> str:
        """By which a coordinator goes now; "" if it does not say."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5.0) as answer:
                told = json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            told = json.loads(refusal.read())
        except OSError:
            return ""
        return str(told["hot_state"]["medium"])

    def _seconds_until(self, condition: Callable[[], object], what: str) -> float:
        began = time.monotonic()
        until(condition, PATIENCE, what)
        return time.monotonic() - began

    def steps_per_second(self, count: int, meanwhile: Callable[[], None]) -> float:
        """Of so many runs from their start to the end of the last; what else is done is done while they run."""
        began = time.monotonic()
        runs = self._client.start_many(twenty, [{}] * count)
        meanwhile()
        assert {run.wait(PATIENCE).state for run in runs} == {run_pb2.RUN_STATE_COMPLETED}
        self._run_ids += [uuid.UUID(run.id) for run in runs]
        return count * STEPS / (time.monotonic() - began)

    def charged(self) -> int:
        """Attempts that were not the first, or did not succeed."""
        query_text = "select count(*) from attempts where run_id = any($1) and (number > 1 or outcome <> 1)"
        return int(query(self._url, query_text, self._run_ids)[0]["count"])


def killed(redis: ValkeyServer) -> Callable[[], object]:
    """Returns what brings it back, empty."""
    redis.kill()
    return redis.start


def hung(redis: ValkeyServer) -> Callable[[], object]:
    redis.freeze()
    return redis.thaw


WAYS = (killed, hung)


def compare(site: Site, runs: int, repeat: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {ON_REDIS: [], ON_POSTGRESQL: []}
    site.steps_per_second(WARM_RUNS, lambda: None)
    for number in range(repeat):
        rates[ON_REDIS].append(site.steps_per_second(runs, site.come_back))
        rates[ON_POSTGRESQL].append(site.steps_per_second(runs, partial(site.lose, WAYS[number % len(WAYS)])))
    site.come_back()
    medians = {medium: statistics.median(values) for medium, values in rates.items()}
    return {
        "steps_per_s": {medium: [round(value) for value in values] for medium, values in rates.items()},
        "median": {medium: round(value) for medium, value in medians.items()},
        "ratio": round(medians[ON_POSTGRESQL] / medians[ON_REDIS], 3),
        "moved_s": _rounded(site.moved),
        "returned_s": _rounded(site.returned),
        "published_again_s": _rounded(site.published_again),
        "attempts_charged": site.charged(),
        "load": round(os.getloadavg()[0], 1),
    }


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="in each turn")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_valkey(Path(name) / "redis") as redis:
        folder = Path(name)
        with (
            running(folder, {"PENSTOCK_REDIS_URL": redis.url}) as (pair, url),
            SyncClient(pair.addresses) as client,
        ):
            pair.settled()
            print(json.dumps(compare(Site(pair, url, redis, client), parsed.runs, parsed.repeat)))


if __name__ == "__main__":
    main()
