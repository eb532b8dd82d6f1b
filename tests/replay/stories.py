"""What is recorded: sessions of a real agent process with a real coordinator, one of every kind."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.integration.runtime.conftest import Coordinator, World
from tests.integration.runtime.test_runs import spec
from tests.replay.tapes import MISSING, PATIENCE, UNREACHABLE, Relay, Tape
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1.pipeline_pb2 import PipelineSpec

TIMING: dict[str, Any] = {"heartbeat_interval": 200_000, "result_resend_interval": 300_000}
QUICK = {"command": {"argv": ["true"]}}
FAILING = {"command": {"argv": ["sh", "-c", "echo no >&2; exit 3"]}}
SPEAKING = {
    "command": {
        "argv": ["printf", "[1, 2]"],
        "outputs": [{"name": "found", "stdout": True, "format": "OUTPUT_FORMAT_JSON"}],
    }
}
SECOND = {"command": {"argv": ["sleep", "1"]}}
ENDLESS = {"command": {"argv": ["sleep", "1000"]}}


class House:
    """The coordinator's side: one at a time, on one database; it does what cues say."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.coordinator: Coordinator

    async def raise_coordinator(self) -> None:
        self.coordinator = await self.world.coordinator(**TIMING)

    async def follow(self, cue: str, run_id: bytes) -> None:
        engine, faults = self.coordinator.engine, self.coordinator.stores.faults
        fleet = self.coordinator.supervisor.fleet
        match cue:
            case "cancel":
                await engine.cancel_run(run_id, False, "enough", None)
            case "pause":
                await engine.pause_run(run_id, "ann", "", None)
            case "resume":
                await engine.resume_run(run_id, "ann", None)
            case "expire":
                fleet.leases.lifetime = 0
                fleet.expire()
            case "hold":
                faults.hold = asyncio.Event()
            case "let_go":
                assert faults.hold is not None
                faults.hold.set()
                faults.hold = None
            case "drain":
                await engine.drain_agent("agent", 10_000_000)
            case "shutdown":
                await fleet.close_all("shutdown", 1.0)
            case "restart":
                await self.coordinator.kill()
                await self.raise_coordinator()
            case _:
                raise ValueError(cue)


class Stage:
    """Where a story is played: a real coordinator, a real agent, and the relay between them that writes it down."""

    def __init__(self, house: House, relay: Relay, agents: Agents) -> None:
        self.house, self.relay, self.agents = house, relay, agents
        self.tape = relay.tape

    async def start(self, *steps: dict[str, Any], **fields: Any) -> bytes:
        made: PipelineSpec = spec(*steps, **fields)
        at = len(self.tape.lines)
        run_id = await self.house.coordinator.start(made)
        self.tape.cue("start", run_id, made.SerializeToString())
        self.tape.lines.insert(at, self.tape.lines.pop())  # it comes before all that follows from it
        return run_id

    async def cue(self, name: str, run_id: bytes = b"") -> None:
        self.tape.cue(name, run_id)
        await self.house.follow(name, run_id)
        self.relay.target = self.house.coordinator.address

    async def ended(self, run_id: bytes) -> None:
        await self.house.coordinator.ended(run_id)

    async def heard(self, who: str, body: str, count: int = 1) -> None:
        await self.relay.until(lambda: sum(line.who == who and line.body == body for line in self.tape.lines) >= count)

    async def accepted(self, count: int = 1) -> None:
        await self.relay.until(lambda: len(self._each("leases_accepted", "leases")) >= count)

    async def acknowledged(self, count: int) -> None:
        await self.relay.until(lambda: len(self._each("result_acks", "acks")) >= count)

    async def running(self) -> None:
        """A heartbeat says that something runs."""
        running = wire.LEASE_PHASE_RUNNING
        await self.relay.until(lambda: any(held.phase == running for held in self._each("heartbeat", "leases")))

    def _each(self, body: str, field: str) -> list[Any]:
        found = [getattr(line.said, body) for line in self.tape.lines if line.body == body]
        return [each for message in found for each in getattr(message, field)]


class Agents:
    """One real agent at a time, always with the same data folder."""

    def __init__(self, address: str, folder: Path, slots: int) -> None:
        self.folder = folder
        self._argv = ["--id", "agent", "--address", address, "--slots", str(slots), "--data-dir", str(folder)]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "penstock_agent", *self._argv, stderr=asyncio.subprocess.DEVNULL
        )

    async def follow(self, cue: str) -> None:
        assert self.process is not None
        match cue:
            case "sigterm":
                self.process.send_signal(signal.SIGTERM)
            case "kill":
                await self.close()
            case "revive":
                await self.start()
            case _:
                raise ValueError(cue)

    async def spooled(self) -> None:
        """A result is in the agent's spool."""
        spool = self.folder / "spool"

        async def is_there() -> bool:
            return spool.exists() and spool.stat().st_size > 0

        await until(is_there, PATIENCE)

    async def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


async def work(stage: Stage) -> None:
    """A chain, a map, failures with retries, outputs."""
    run_id = await stage.start(
        {"name": "a", **SPEAKING},
        {"name": "m", **QUICK, "map": {"step": {"step": "a", "path": ["found"]}}, "inputs": {"i": {"item": {}}}},
        {"name": "f", **FAILING, "retry": {"max_attempts": 2}, "dependsOn": ["m"], "timeouts": {"attempt": "60s"}},
    )
    await stage.ended(run_id)
    await stage.acknowledged(5)
    await stage.heard("coordinator", "heartbeat_ack", 2)


async def timeout(stage: Stage) -> None:
    run_id = await stage.start({"name": "a", **ENDLESS, "timeouts": {"attempt": "0.300s"}})
    await stage.ended(run_id)
    await stage.acknowledged(1)


async def cancel(stage: Stage) -> None:
    run_id = await stage.start({"name": "a", **ENDLESS}, stopGrace="5s")
    await stage.accepted()
    await stage.cue("cancel", run_id)
    await stage.ended(run_id)
    await stage.acknowledged(1)


async def pause(stage: Stage) -> None:
    """What has not started is called back, and comes again when the run is resumed."""
    run_id = await stage.start({"name": "a", **QUICK}, bundleDigest=UNREACHABLE)
    await stage.accepted()
    await stage.cue("pause", run_id)
    await stage.heard("agent", "returned")
    await stage.cue("resume", run_id)
    await stage.accepted(2)


async def reconnect(stage: Stage) -> None:
    """One attempt goes on over the break, another one ends in it."""
    await stage.start({"name": "a", **ENDLESS}, {"name": "b", **SECOND}, stopGrace="5s")
    await stage.accepted()
    stage.relay.cut()
    await stage.agents.spooled()
    stage.relay.mend()
    await stage.heard("coordinator", "lease_verdicts")
    await stage.acknowledged(1)
    await stage.heard("coordinator", "heartbeat_ack", 2)


async def restart(stage: Stage) -> None:
    """The coordinator is killed, and another one takes its place."""
    run_id = await stage.start({"name": "a", **SECOND}, {"name": "b", **QUICK, "dependsOn": ["a"]})
    await stage.accepted()
    stage.relay.cut()
    await stage.cue("restart")
    stage.relay.mend()
    await stage.heard("coordinator", "lease_verdicts")
    await stage.ended(run_id)
    await stage.acknowledged(2)


async def given_up(stage: Stage) -> None:
    """While the agent is away its runs end: it is told to stop one attempt and to drop the result of another one."""
    run_id = await stage.start({"name": "a", **ENDLESS}, {"name": "b", **SECOND})
    await stage.accepted()
    stage.relay.cut()
    await stage.agents.spooled()
    await stage.cue("cancel", run_id)
    await stage.cue("expire")
    await stage.ended(run_id)
    stage.relay.mend()
    await stage.heard("coordinator", "lease_verdicts")
    await stage.heard("coordinator", "heartbeat_ack", 2)


async def resent(stage: Stage) -> None:
    """A commit takes its time: the result is sent again, and acknowledged once it is there."""
    run_id = await stage.start({"name": "a", **SECOND})
    await stage.accepted()
    await stage.cue("hold")
    await stage.heard("agent", "results", 2)
    await stage.cue("let_go")
    await stage.ended(run_id)
    await stage.heard("coordinator", "result_acks")


async def spooled(stage: Stage) -> None:
    """The agent dies with a result that is not acknowledged; the next process brings it."""
    run_id = await stage.start({"name": "a", **QUICK})
    await stage.accepted()
    await stage.cue("hold")
    await stage.heard("agent", "results", 2)
    stage.tape.cue("kill")
    await stage.agents.follow("kill")
    await stage.cue("let_go")
    await stage.ended(run_id)
    stage.tape.cue("revive")
    await stage.agents.follow("revive")
    await stage.heard("coordinator", "lease_verdicts")
    await stage.acknowledged(1)


async def rejected(stage: Stage) -> None:
    """The code of the step is nowhere to be had."""
    run_id = await stage.start({"name": "a", **QUICK}, bundleDigest=MISSING)
    await stage.ended(run_id)
    await stage.heard("coordinator", "heartbeat_ack", 1)


async def drained(stage: Stage) -> None:
    """By the coordinator: what runs ends, then the agent says goodbye."""
    await stage.start({"name": "a", **SECOND})
    await stage.accepted()
    await stage.running()
    await stage.cue("drain")
    await stage.heard("agent", "goodbye")


async def goodbye(stage: Stage) -> None:
    """By a signal: what runs ends, what has not started is handed back."""
    await stage.start({"name": "a", **SECOND})
    await stage.accepted()
    await stage.running()
    stage.tape.cue("sigterm")
    await stage.agents.follow("sigterm")
    await stage.heard("agent", "goodbye")


async def shutdown(stage: Stage) -> None:
    """The coordinator says that it goes; the agent comes back with what it holds."""
    await stage.start({"name": "a", **ENDLESS})
    await stage.accepted()
    await stage.cue("shutdown")
    await stage.heard("coordinator", "lease_verdicts")


STORIES: list[Callable[[Stage], Awaitable[None]]] = [
    work, timeout, cancel, pause, reconnect, restart, given_up, resent, spooled, rejected, drained, goodbye, shutdown,
]  # fmt: skip
SLOTS = 4


async def record(story: Callable[[Stage], Awaitable[None]], build: str, folder: Path) -> Tape:
    tape = Tape(build, story.__name__, SLOTS)
    house, relay = House(World()), Relay(tape)
    await relay.start()
    agents = Agents(relay.address, folder / story.__name__, SLOTS)
    try:
        await house.raise_coordinator()
        relay.target = house.coordinator.address
        await agents.start()
        stage = Stage(house, relay, agents)
        await stage.heard("agent", "credits")
        await story(stage)
        return Tape(build, story.__name__, SLOTS, list(tape.lines))
    finally:
        await agents.close()
        await relay.stop()
        await house.world.close()
