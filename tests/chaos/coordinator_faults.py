"""What is done to one of several coordinators, to its ways to everybody else, and to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from tests.chaos.faults import COORDINATOR, DATABASE_LINK, Doing, Fault, Kind, Trouble, draw
from tests.chaos.places import far_address, near_address
from tests.chaos.take_overs import MEMBER, OWNER, OWNERS
from tests.chaos.world import OWNERSHIP, World
from tests.rig.link import Link

REDIS_LINK, REDIS = "redis link", "redis"
CALLERS, PEERS, NETWORK = "callers", "peers", "network"
"""Of a coordinator: its agents and clients, the other coordinators, and all there is. These need namespaces."""
PLACED = (CALLERS, PEERS, NETWORK)
OF_COORDINATORS = (COORDINATOR, DATABASE_LINK, REDIS_LINK, *PLACED)
FOLLOWER = "follower"
ROLES = (OWNER, OWNER, OWNER, FOLLOWER)
ROLES_OF_SEVERAL_OWNERS = (OWNER, MEMBER, MEMBER)
KINDS = (
    Kind("kill", COORDINATOR, 5.0, 0, 0),
    Kind("freeze", COORDINATOR, 4.0, 1.0, 25.0),
    Kind("black hole", DATABASE_LINK, 1.2, 3.0, 15.0),
    Kind("mute", DATABASE_LINK, 0.7, 3.0, 15.0),
    Kind("deaf", DATABASE_LINK, 0.7, 3.0, 15.0),
    Kind("cut", DATABASE_LINK, 0.4, 0, 0),
    Kind("delay", DATABASE_LINK, 0.4, 1.0, 6.0),
    Kind("black hole", REDIS_LINK, 0.8, 2.0, 10.0),
    Kind("partition", CALLERS, 1.2, 3.0, 20.0),
    Kind("partition in", CALLERS, 0.7, 3.0, 20.0),
    Kind("partition out", CALLERS, 0.7, 3.0, 20.0),
    Kind("partition", PEERS, 0.6, 3.0, 12.0),
    Kind("partition", NETWORK, 1.2, 3.0, 15.0),
    Kind("partition in", NETWORK, 0.7, 3.0, 15.0),
    Kind("partition out", NETWORK, 0.7, 3.0, 15.0),
    Kind("kill", REDIS, 0.8, 0.5, 5.0),
    Kind("freeze", REDIS, 0.8, 0.5, 5.0),
    Kind("sleep", REDIS, 0.5, 0.5, 3.0),
    Kind("flush", REDIS, 0.6, 0, 0),
)
LIVELY_SECONDS = OWNERSHIP
"""A coordinator whose row has been renewed in that time is at work; each renews at a third of it."""
LOOKS_APART = 1.0
SETTLING_SECONDS = OWNERSHIP + 1.0
"""From one fault of a coordinator to the next one at the soonest: what came of the first one is seen by then."""
LOOK = (
    "select coordinator_id, state, renewals, coalesce((select max(at) from chaos_writes w where w.epoch = c.epoch), 0)"
    " as wrote from coordinators c"
)
STATES = {0: FOLLOWER, 1: OWNER, 3: MEMBER}


def script(seed: str, seconds: float, every: float, world: World) -> list[Fault]:
    """The faults of one round; what is done to a coordinator is to the one that has the role when it is done."""
    kinds = [kind for kind in KINDS if world.places or kind.target not in PLACED]
    roles = ROLES_OF_SEVERAL_OWNERS if world.members else ROLES
    return draw(seed, seconds, every, kinds, dict.fromkeys(OF_COORDINATORS, roles))


@dataclass(slots=True)
class _Row:
    role: str
    """Empty: it is gone."""
    renewals: int
    wrote: float
    """Seconds since 1970, in its newest epoch."""
    renewed: float
    """On this process' clock; 0: it was not seen to be."""

    def is_lively(self, now: float) -> bool:
        return now - self.renewed < LIVELY_SECONDS


class CoordinatorTrouble(Trouble):
    """One coordinator after the other: the next one is struck when one works and another one could take over."""

    def __init__(self, world: World, log: Path) -> None:
        super().__init__(world, log)
        self._rows: dict[str, _Row] = {}
        self._looked = 0.0
        self._struck = 0.0

    def _is_time_for(self, fault: Fault) -> bool:
        if fault.target not in OF_COORDINATORS:
            return True
        now = time.monotonic()
        try:
            self._look(now)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        lively = [name for name, row in self._rows.items() if row.is_lively(now)]
        working = [name for name in lively if self._rows[name].role in OWNERS and self._wrote_lately(name)]
        chosen = [name for name in lively if self._rows[name].role == fault.name]
        if fault.name in OWNERS:
            chosen = [name for name in chosen if name in working]
        alone = len(lively) < 2 or not working
        if not chosen or alone or now - self._struck < SETTLING_SECONDS:
            return False
        self._struck = now
        fault.role, fault.name = fault.name, chosen[int(fault.amount * len(chosen))]
        return True

    def _wrote_lately(self, name: str) -> bool:
        return time.time() - self._rows[name].wrote < OWNERSHIP

    def _look(self, now: float) -> None:
        fresh = now - self._looked < LOOKS_APART
        self._looked = now
        for record in asyncio.run(asyncio.wait_for(_ask(self._world.server.dsn), 5.0)):
            name, before = record["coordinator_id"], self._rows.get(record["coordinator_id"])
            renewed = before.renewed if before and fresh else 0.0
            if before and fresh and before.renewals != record["renewals"]:
                renewed = now
            role = STATES.get(record["state"], "")
            self._rows[name] = _Row(role, record["renewals"], record["wrote"] / 1e6, renewed)

    # --- links

    def _black_hole_database_link(self, fault: Fault) -> Doing:
        return self._dropped(self._world.database_links[fault.name], requests=True, answers=True)

    def _mute_database_link(self, fault: Fault) -> Doing:
        return self._dropped(self._world.database_links[fault.name], requests=True, answers=False)

    def _black_hole_redis_link(self, fault: Fault) -> Doing:
        return self._dropped(self._world.redis_links[fault.name], requests=True, answers=True)

    def _dropped(self, link: Link, *, requests: bool, answers: bool) -> Doing:
        link.drop(requests=requests, answers=answers)
        return self._healed(link)

    # --- namespaces

    def _partition_callers(self, fault: Fault) -> Doing:
        return self._apart(fault, self._from_callers(fault), self._to_callers(fault))

    def _partition_in_callers(self, fault: Fault) -> Doing:
        return self._apart(fault, self._from_callers(fault), ())

    def _partition_out_callers(self, fault: Fault) -> Doing:
        return self._apart(fault, (), self._to_callers(fault))

    def _partition_peers(self, fault: Fault) -> Doing:
        others = [far_address(place.number) for name, place in self._world.places.items() if name != fault.name]
        return self._apart(fault, [("from", each) for each in others], [("to", each) for each in others])

    def _partition_network(self, fault: Fault) -> Doing:
        return self._apart(fault, [()], [()])

    def _partition_in_network(self, fault: Fault) -> Doing:
        return self._apart(fault, [()], ())

    def _partition_out_network(self, fault: Fault) -> Doing:
        return self._apart(fault, (), [()])

    def _from_callers(self, fault: Fault) -> Sequence[Sequence[str]]:
        number, port = self._world.places[fault.name].number, self._world.coordinators[fault.name].port
        return [("from", near_address(number), "ipproto", "tcp", "dport", str(port))]

    def _to_callers(self, fault: Fault) -> Sequence[Sequence[str]]:
        number, port = self._world.places[fault.name].number, self._world.coordinators[fault.name].port
        return [("to", near_address(number), "ipproto", "tcp", "sport", str(port))]

    @contextlib.contextmanager
    def _apart(
        self, fault: Fault, incoming: Sequence[Sequence[str]], outgoing: Sequence[Sequence[str]]
    ) -> Iterator[None]:
        with self._place(fault) as place:
            place.drop(incoming, outgoing)
            yield

    # --- Redis

    @contextlib.contextmanager
    def _kill_redis(self, _fault: Fault) -> Iterator[None]:
        self._world.redis.kill()
        try:
            yield
        finally:
            self._world.redis.start()

    def _freeze_redis(self, fault: Fault) -> Doing:
        return self._frozen([self._world.redis.pid], fault)

    @contextlib.contextmanager
    def _sleep_redis(self, fault: Fault) -> Iterator[None]:
        """It answers nobody, and keeps all connections."""
        self._world.redis.ask("DEBUG", "SLEEP", str(fault.seconds))
        yield

    def _flush_redis(self, _fault: Fault) -> Doing:
        self._world.redis.ask("FLUSHALL")
        return contextlib.nullcontext()


async def _ask(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(LOOK))
    finally:
        await connection.close()
