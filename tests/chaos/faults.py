"""What is done to the system: a script that follows from a seed, and the log of what was done when."""

from __future__ import annotations

import contextlib
import json
import math
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from tests.chaos.places import CAN_LOSE, Place
from tests.chaos.world import World
from tests.rig.link import Link
from tests.rig.parts import Part, processes_of_server, send, thaw

COORDINATOR, AGENT, STEP, POSTGRES = "coordinator", "agent", "step", "postgres"
LINK, DATABASE_LINK, PLACE, DISK = "link", "database link", "place", "disk"
HARD = (COORDINATOR, AGENT, STEP, POSTGRES)
"""Of these targets are the kills and freezes."""
NO_VICTIM = "no victim"
WORKER = "penstock_agent.executors.worker"
BACKEND = "127.0.0.1("
"""In the titles of processes of PostgreSQL that serve a client."""
Doing = contextlib.AbstractContextManager[None]
APART = 1.0
"""Seconds that a target is left alone after a fault."""


@dataclass(slots=True)
class Fault:
    kind: str
    target: str
    name: str
    """Of the agent, for example. Of one of several coordinators: its role, until it is done."""
    at: float
    """Seconds after the begin of the round."""
    seconds: float
    amount: float = 0.0
    began: float = 0.0
    """Seconds since 1970; 0: it was not done, for want of a victim."""
    ended: float = 0.0
    note: str = ""
    role: str = ""
    """That one of several coordinators had when it was done."""

    @property
    def title(self) -> str:
        return f"{self.kind} {self.target}"

    @property
    def is_hard(self) -> bool:
        """A kill or a freeze."""
        return self.target in HARD

    def line(self) -> str:
        return json.dumps(asdict(self))


# --- the script


@dataclass(frozen=True, slots=True)
class Kind:
    kind: str
    target: str
    weight: float
    shortest: float
    longest: float


KINDS = (
    Kind("kill", COORDINATOR, 4.5, 0, 0),
    Kind("freeze", COORDINATOR, 2.0, 0.1, 20.0),
    Kind("kill", AGENT, 5.0, 0, 0),
    Kind("freeze", AGENT, 4.0, 0.1, 20.0),
    Kind("kill", STEP, 3.0, 0, 0),
    Kind("freeze", STEP, 2.0, 0.1, 6.0),
    Kind("crash", POSTGRES, 1.5, 0.1, 2.0),
    Kind("kill", POSTGRES, 1.0, 0.1, 2.0),
    Kind("freeze", POSTGRES, 1.5, 0.1, 6.0),
    Kind("cut", LINK, 1.0, 0, 0),
    Kind("delay", LINK, 0.7, 1.0, 6.0),
    Kind("mute", LINK, 1.0, 0.5, 8.0),
    Kind("deaf", LINK, 1.0, 0.5, 8.0),
    Kind("black hole", LINK, 1.0, 0.5, 8.0),
    Kind("refuse", LINK, 0.7, 0.5, 5.0),
    Kind("cut", DATABASE_LINK, 1.0, 0, 0),
    Kind("delay", DATABASE_LINK, 0.5, 1.0, 4.0),
    Kind("deaf", DATABASE_LINK, 0.7, 0.5, 4.0),
    Kind("lose answers", DATABASE_LINK, 1.5, 1.0, 4.0),
    Kind("partition in", PLACE, 1.0, 0.5, 10.0),
    Kind("partition out", PLACE, 1.0, 0.5, 10.0),
    Kind("loss", PLACE, 1.0, 2.0, 8.0),
    Kind("full", DISK, 1.0, 1.0, 8.0),
)


def script(seed: str, seconds: float, every: float, world: World) -> list[Fault]:
    """The faults of one round. The same seed and the same kinds of places give the same script."""
    names = {
        COORDINATOR: sorted(world.coordinators),
        DATABASE_LINK: sorted(world.database_links),
        AGENT: sorted(world.agents),
        STEP: sorted(world.agents),
        LINK: sorted(world.links),
        PLACE: sorted(world.places),
        DISK: sorted(world.disks),
    }
    kinds = [kind for kind in KINDS if names.get(kind.target, [""]) and (kind.kind != "loss" or CAN_LOSE)]
    return draw(seed, seconds, every, kinds, names)


def draw(
    seed: str, seconds: float, every: float, kinds: Sequence[Kind], names: Mapping[str, Sequence[str]]
) -> list[Fault]:
    """Faults of these kinds, of targets by these names; a target without names has its own."""
    chance = random.Random(seed)
    free: dict[tuple[str, str], float] = {}
    faults: list[Fault] = []
    at = 1.0
    while at < seconds:
        kind = chance.choices(kinds, [kind.weight for kind in kinds])[0]
        name = chance.choice(names.get(kind.target, [kind.target]))
        lasts = _span(chance, kind)
        amount = chance.random()
        if free.get((kind.target, name), 0.0) <= at:
            faults.append(Fault(kind.kind, kind.target, name, round(at, 2), lasts, amount))
            free[kind.target, name] = at + lasts + APART
            at += chance.expovariate(1 / every)
    return faults


def _span(chance: random.Random, kind: Kind) -> float:
    """Short ones are more frequent."""
    if not kind.longest:
        return 0.0
    return round(kind.shortest * math.pow(kind.longest / kind.shortest, chance.random()), 2)


# --- doing it


class Trouble:
    """Plays a script, each fault in a thread of its own, and knows what was done."""

    def __init__(self, world: World, log: Path) -> None:
        self._world = world
        self._log = log.open("a")
        self._lock = threading.Lock()
        self.done: list[Fault] = []
        self._over = threading.Event()

    def play(self, faults: list[Fault], goes_on: Callable[[], bool]) -> None:
        """Returns when the last one has ended. Those that have not begun when it is not to go on are left out."""
        began = time.monotonic()
        threads: list[threading.Thread] = []
        self._over.clear()
        for fault in faults:
            while (wait := began + fault.at - time.monotonic()) > 0 and goes_on():
                time.sleep(min(wait, 0.2))
            while goes_on() and not self._is_time_for(fault):
                time.sleep(0.2)
            if not goes_on():
                break
            thread = threading.Thread(target=self._do, args=(fault,), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _is_time_for(self, _fault: Fault) -> bool:
        """Else it waits, and those after it."""
        return True

    def _do(self, fault: Fault) -> None:
        doing = getattr(self, f"_{fault.kind}_{fault.target}".replace(" ", "_"))
        fault.began = time.time()
        try:
            with doing(fault):
                time.sleep(fault.seconds)
        except Exception as error:
            fault.note = f"{type(error).__name__}: {error}"
            raise
        finally:
            fault.ended = time.time()
            if fault.note == NO_VICTIM:
                fault.began = 0.0
            with self._lock:
                self.done.append(fault)
                self._log.write(fault.line() + "\n")
                self._log.flush()

    def counts(self) -> Counter[str]:
        return Counter(fault.title for fault in self.done if fault.began)

    # --- processes

    @contextlib.contextmanager
    def _killed(self, part: Part, fault: Fault) -> Iterator[None]:
        if not part.kill():
            fault.note = NO_VICTIM
        yield

    @contextlib.contextmanager
    def _frozen(self, pids: list[int], fault: Fault) -> Iterator[None]:
        frozen = [pid for pid in pids if pid and send(pid, signal.SIGSTOP)]
        if not frozen:
            fault.note = NO_VICTIM
        try:
            yield
        finally:
            for pid in frozen:
                thaw(pid)

    def _kill_coordinator(self, fault: Fault) -> Doing:
        return self._killed(self._world.coordinators[fault.name], fault)

    def _freeze_coordinator(self, fault: Fault) -> Doing:
        return self._frozen([self._world.coordinators[fault.name].pid], fault)

    def _kill_agent(self, fault: Fault) -> Doing:
        return self._killed(self._world.agents[fault.name], fault)

    def _freeze_agent(self, fault: Fault) -> Doing:
        return self._frozen([self._world.agents[fault.name].pid], fault)

    @contextlib.contextmanager
    def _kill_step(self, fault: Fault) -> Iterator[None]:
        victim = self._step_process(fault)
        if not victim or not send(victim, signal.SIGKILL):
            fault.note = NO_VICTIM
        yield

    def _freeze_step(self, fault: Fault) -> Doing:
        return self._frozen([self._step_process(fault)], fault)

    def _step_process(self, fault: Fault) -> int:
        """One of the agent's workers; 0 if it has none now."""
        pids = [pid for pid in self._world.agents[fault.name].children() if _says(pid, WORKER)]
        return pids[int(fault.amount * len(pids))] if pids else 0

    # --- PostgreSQL

    @contextlib.contextmanager
    def _crash_postgres(self, _fault: Fault) -> Iterator[None]:
        self._world.crash_server()
        yield
        self._world.raise_server()

    @contextlib.contextmanager
    def _kill_postgres(self, fault: Fault) -> Iterator[None]:
        pid = self._world.server.server_pid
        if pid is None or not send(pid, signal.SIGKILL):
            fault.note = NO_VICTIM
        yield
        self._world.raise_server()

    def _freeze_postgres(self, fault: Fault) -> Doing:
        """One of its processes that serve us, or all that it has."""
        pids = processes_of_server(self._world.server)
        serving = [pid for pid in pids if _says(pid, BACKEND)]
        if fault.amount < 0.5 and serving:
            return self._frozen([serving[int(fault.amount * 2 * len(serving))]], fault)
        return self._frozen(pids, fault)

    # --- links

    @contextlib.contextmanager
    def _healed(self, link: Link) -> Iterator[None]:
        try:
            yield
        finally:
            link.heal()

    def _cut_link(self, fault: Fault) -> Doing:
        self._world.links[fault.name].cut()
        return contextlib.nullcontext()

    def _delay_link(self, fault: Fault) -> Doing:
        self._world.links[fault.name].delay = 0.05 + 0.35 * fault.amount
        return self._healed(self._world.links[fault.name])

    def _mute_link(self, fault: Fault) -> Doing:
        """The agent is not heard."""
        self._world.links[fault.name].drop(requests=True, answers=False)
        return self._healed(self._world.links[fault.name])

    def _deaf_link(self, fault: Fault) -> Doing:
        """The agent hears nothing."""
        self._world.links[fault.name].drop(requests=False, answers=True)
        return self._healed(self._world.links[fault.name])

    def _black_hole_link(self, fault: Fault) -> Doing:
        self._world.links[fault.name].drop(requests=True, answers=True)
        return self._healed(self._world.links[fault.name])

    def _refuse_link(self, fault: Fault) -> Doing:
        self._world.links[fault.name].refuse()
        return self._healed(self._world.links[fault.name])

    def _cut_database_link(self, fault: Fault) -> Doing:
        self._world.database_links[fault.name].cut()
        return contextlib.nullcontext()

    def _delay_database_link(self, fault: Fault) -> Doing:
        self._world.database_links[fault.name].delay = 0.01 + 0.05 * fault.amount
        return self._healed(self._world.database_links[fault.name])

    def _deaf_database_link(self, fault: Fault) -> Doing:
        self._world.database_links[fault.name].drop(requests=False, answers=True)
        return self._healed(self._world.database_links[fault.name])

    def _lose_answers_database_link(self, fault: Fault) -> Doing:
        """Of commits: they are done, and nobody is told."""
        name = (self._world.coordinators[fault.name].data / "coordinator-id").read_bytes().strip()
        self._world.database_links[fault.name].cut_at_answer(name, 1_000)
        return self._healed(self._world.database_links[fault.name])

    # --- places and disks

    @contextlib.contextmanager
    def _place(self, fault: Fault) -> Iterator[Place]:
        place = self._world.places[fault.name]
        try:
            yield place
        finally:
            place.heal()

    @contextlib.contextmanager
    def _partition_in_place(self, fault: Fault) -> Iterator[None]:
        with self._place(fault) as place:
            place.cut_incoming()
            yield

    @contextlib.contextmanager
    def _partition_out_place(self, fault: Fault) -> Iterator[None]:
        with self._place(fault) as place:
            place.cut_outgoing()
            yield

    @contextlib.contextmanager
    def _loss_place(self, fault: Fault) -> Iterator[None]:
        with self._place(fault) as place:
            place.lose(int(5 + 35 * fault.amount))
            yield

    @contextlib.contextmanager
    def _full_disk(self, fault: Fault) -> Iterator[None]:
        disk = self._world.disks[fault.name]
        disk.fill()
        try:
            yield
        finally:
            disk.free()


def _says(pid: int, words: str) -> bool:
    """Whether the process says so of itself."""
    try:
        return words in " ".join(psutil.Process(pid).cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
