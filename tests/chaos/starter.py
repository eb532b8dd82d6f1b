"""The client, a process of its own: starts runs as it is told, and notes each that was acknowledged.

usage: python -m tests.chaos.starter ADDRESS
It reads a JSON object per line: {"round": 3, "count": 1000, "slow": 0.1, "ledger": …, "accepted": …, "seed": …}
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

from tests.chaos import chaos_flows as flows

from penstock.client.sync import SyncClient
from penstock.errors import ServiceError

BATCH = 50
PAUSE = 0.5


def main(address: str) -> None:
    with SyncClient(address) as client:
        for pipeline in flows.PIPELINES:
            _until_done(lambda pipeline=pipeline: client.create_pipeline(pipeline))
        print("ready", flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            _start(client, order)
            print("started", flush=True)


def _start(client: SyncClient, order: dict[str, Any]) -> None:
    """In batches, each until it is acknowledged: with the same request ids, so that nothing starts twice."""
    chance = random.Random(order["seed"])
    left, number = order["count"], 0
    while left:
        count = min(left, BATCH)
        pipeline = flows.PIPELINES[number % len(flows.PIPELINES)]
        sets = [_parameters(pipeline.name, order, chance) for _ in range(count)]
        ids = [f"{order['round']}-{order['seed']}-{number}-{each}" for each in range(count)]
        handles = _until_done(
            lambda name=pipeline.name, sets=sets, ids=ids: client.start_many(
                name, sets, request_ids=ids, labels={"round": str(order["round"])}
            )
        )
        flows.write(order["accepted"], *(f"{handle.id}" for handle in handles))
        left, number = left - count, number + 1


def _parameters(name: str, order: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    slow = chance.uniform(1.0, 2.0) if chance.random() < order["slow"] else 0.0
    given: dict[str, Any] = {"ledger": order["ledger"], "seconds": round(slow, 2)}
    return {**given, "items": [1, 2, 3]} if name == "chaos_map" else given


def _until_done(call: Any) -> Any:
    while True:
        try:
            return call()
        except ServiceError as error:
            print(f"again: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(sys.argv[1])
