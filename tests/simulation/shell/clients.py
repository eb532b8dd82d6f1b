"""Programs that use the coordinator: they start runs, follow them, wait for them, steer them, and lose patience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
from tests.simulation.shell.loop import Process
from tests.simulation.shell.machines import ADDRESS
from tests.simulation.shell.pipelines import NAMES, specifications
from tests.simulation.shell.wire import VirtualChannel

from penstock.v1 import bulk_service_pb2, pipeline_service_pb2, run_service_pb2
from penstock.v1.bulk_service_pb2_grpc import BulkServiceStub
from penstock.v1.pipeline_service_pb2_grpc import PipelineServiceStub
from penstock.v1.run_service_pb2_grpc import RunServiceStub

if TYPE_CHECKING:
    from tests.simulation.shell.world import World

COME_BACK = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)
"""With these a client tries again. Everything else but what a client may well be told is a fault."""
TOLD = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE)
FINAL = 6
"""From here on the states of runs are those at rest."""


@dataclass
class Told:
    """What clients were told; the checks compare it with the journal."""

    started: dict[str, str] = field(default_factory=dict)
    """By request id, the run."""
    asked: dict[str, str] = field(default_factory=dict)
    """By request id, the pipeline: whether it was answered or not."""
    ended: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By run, the state it was seen at rest in, and the number of its last event then."""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Habits:
    """Of the clients of a schedule, each a chance."""

    impatient: float = 0.0
    """A call is cancelled while it is under way, and made again with the same request id."""
    repeating: float = 0.0
    """A call that was answered is made again."""
    crowds: bool = False
    """They begin with many runs at once."""
    steering: float = 0.0
    """Of each run, to cancel, pause, resume, retry or rerun it."""
    bulk: float = 0.0
    """After each run, to cancel or retry many."""
    calm: bool = False
    """Nothing goes wrong, and no line is lost."""
    runs: int = 3
    """Of each client."""


class Client:
    def __init__(self, world: World, number: int, habits: Habits, told: Told) -> None:
        self.world = world
        self.process = Process(f"client-{number}")
        self.done = False
        self._habits = habits
        self._told = told
        self._chance = world.chance(f"client:{number}")
        self._number = number
        self._requests = 0
        channel = cast("grpc.aio.Channel", VirtualChannel(world.network, ADDRESS, self.process))
        self._runs = RunServiceStub(channel)
        self._jobs = BulkServiceStub(channel)
        self._pipelines = PipelineServiceStub(channel)

    def start(self) -> None:
        self.world.loop.spawn(self.process, self._live())

    async def _live(self) -> None:
        """A script that ends when all is heard of that was asked for."""
        following: list[asyncio.Task[None]] = []
        if self._habits.crowds:
            following += [asyncio.create_task(self._wait(run_id)) for run_id in await self._start_many()]
        for _ in range(self._habits.runs):
            await asyncio.sleep(self._chance.random() * 5)
            pipeline = self._chance.choice(NAMES)
            run_id = await self._start(pipeline)
            following.append(asyncio.create_task(self._accompany(run_id)))
            if self._chance.random() < self._habits.bulk:
                await self._bulk(pipeline)
        await asyncio.gather(*following)
        self.done = True

    async def apply(self) -> None:
        for spec in specifications():
            request = pipeline_service_pb2.CreatePipelineRequest(spec=spec, request_id=self._request_id())
            await self._ask(self._pipelines.Create, request)

    # --- runs

    async def _start(self, pipeline: str) -> str:
        request = run_service_pb2.StartRunRequest(pipeline=pipeline, request_id=self._request_id())
        self._told.asked[request.request_id] = pipeline
        run_id: str = (await self._ask(self._runs.Start, request)).run.id
        self._know(request.request_id, run_id)
        while self._chance.random() < self._habits.repeating:
            self._know(request.request_id, (await self._ask(self._runs.Start, request)).run.id)
        return run_id

    def _know(self, request_id: str, run_id: str) -> None:
        known = self._told.started.setdefault(request_id, run_id)
        if known != run_id:
            self._told.wrong.append(f"idempotent: {request_id} was answered with {known} and with {run_id}")

    async def _accompany(self, run_id: str) -> None:
        """Until it is at rest, in one of the ways that there are."""
        others = [self._steer(run_id)] if self._chance.random() < self._habits.steering else []
        way = self._chance.choice((self._wait, self._wait, self._watch, self._tail))
        await asyncio.gather(way(run_id), *others)

    async def _wait(self, run_id: str) -> None:
        request = run_service_pb2.WaitManyRunsRequest(run_ids=[run_id])

        async def wait() -> None:
            async for response in self._runs.WaitMany(request):
                for run in response.runs:
                    self._seen(run)

        await self._persist(wait)

    def _seen(self, run: Any) -> None:
        if run.state < FINAL:
            self._told.wrong.append(f"at rest: {run.id} was told to be at rest, and is {run.state}")
        self._told.ended[run.id] = (run.state, run.last_event)

    async def _watch(self, run_id: str) -> None:
        """All events, from where the last stream ended."""
        last = 0
        over = False

        async def watch() -> None:
            nonlocal last, over
            request = run_service_pb2.WatchRunRequest(run_id=run_id, from_event=last + 1)
            async for response in self._runs.Watch(request):
                for event in response.events:
                    if event.number != last + 1:
                        self._told.wrong.append(f"watch: of {run_id} event {event.number} came after {last}")
                    last = event.number
                    over = event.run_state >= FINAL

        while not over:
            await self._persist(watch)
            await asyncio.sleep(self._chance.random())

    async def _tail(self, run_id: str) -> None:
        """The lines of all its steps, until the run is at rest; those of one stream in order."""
        request = run_service_pb2.TailLogsRequest(run_id=run_id, follow=True)

        async def tail() -> None:
            last: dict[tuple[object, ...], int] = {}
            async for response in self._runs.TailLogs(request):
                for line in response.lines:
                    key = (line.step, tuple(line.item), line.attempt)
                    if self._habits.calm and line.number != last.get(key, 0) + 1:
                        self._told.wrong.append(f"logs: of {run_id} {key} {line.number} came after {last.get(key, 0)}")
                    last[key] = line.number

        await self._persist(tail)

    async def _steer(self, run_id: str) -> None:
        for _ in range(1 + int(self._chance.random() * 3)):
            await asyncio.sleep(self._chance.random() ** 2 * 20)
            await self._chance.choice((self._cancel, self._pause, self._retry, self._rerun))(run_id)

    async def _cancel(self, run_id: str) -> None:
        mode = self._chance.choice((run_service_pb2.CANCEL_MODE_POLITE, run_service_pb2.CANCEL_MODE_NOW))
        request = run_service_pb2.CancelRunRequest(run_id=run_id, mode=mode, request_id=self._request_id())
        await self._ask(self._runs.Cancel, request)

    async def _pause(self, run_id: str) -> None:
        request = run_service_pb2.PauseRunRequest(run_id=run_id, request_id=self._request_id())
        await self._ask(self._runs.Pause, request)
        await asyncio.sleep(self._chance.random() * 20)
        await self._ask(
            self._runs.Resume, run_service_pb2.ResumeRunRequest(run_id=run_id, request_id=self._request_id())
        )

    async def _retry(self, run_id: str) -> None:
        await self._ask(self._runs.Retry, run_service_pb2.RetryRunRequest(run_id=run_id, request_id=self._request_id()))

    async def _rerun(self, run_id: str) -> None:
        run = (await self._ask(self._runs.Get, run_service_pb2.GetRunRequest(run_id=run_id))).run
        step = "list" if run.pipeline == "mapped" else "one" if run.pipeline == "shared" else "a"
        request = run_service_pb2.RerunStepRequest(run_id=run_id, step=step, request_id=self._request_id())
        await self._ask(self._runs.RerunStep, request)

    async def _start_many(self) -> list[str]:
        """More than there is room for, in one call."""
        requests = [
            run_service_pb2.StartRunRequest(pipeline=self._chance.choice(NAMES), request_id=self._request_id())
            for _ in range(8)
        ]
        for request in requests:
            self._told.asked[request.request_id] = request.pipeline
            if self._chance.random() < 0.3:
                request.run_key = f"key-{int(self._chance.random() * 2)}"
                request.run_key_conflict = run_service_pb2.RUN_KEY_CONFLICT_USE_EXISTING
        answer = await self._ask(self._runs.StartMany, run_service_pb2.StartManyRunsRequest(requests=requests))
        for request, run_id in zip(requests, answer.run_ids, strict=True):
            self._know(request.request_id, run_id)
        return list(dict.fromkeys(answer.run_ids))

    async def _bulk(self, pipeline: str) -> None:
        action = self._chance.choice((bulk_service_pb2.BULK_ACTION_CANCEL, bulk_service_pb2.BULK_ACTION_RETRY))
        job = bulk_service_pb2.BulkJob(action=action, selection=bulk_service_pb2.RunSelection(pipeline=pipeline))
        request = bulk_service_pb2.CreateBulkJobRequest(job=job, request_id=self._request_id())
        await self._ask(self._jobs.Create, request)

    # --- calls

    def _request_id(self) -> str:
        self._requests += 1
        return f"request-{self._number}-{self._requests}"

    async def _ask(self, method: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        """The answer, however often it takes. None if the coordinator says that it cannot be."""
        answer: Any = None

        async def once() -> None:
            nonlocal answer
            answer = await method(request)

        await self._persist(once)
        return answer

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Again and again until it ends well, or is refused; now and then it is cancelled at some moment."""
        pause = 0.05
        while True:
            task = asyncio.ensure_future(work())
            if self._chance.random() < self._habits.impatient:
                self.world.faults["call cancelled"] += 1
                self.world.loop.within(self.process, self._cancel_later, task)
            try:
                await asyncio.wait({task})
                task.result()
                return
            except asyncio.CancelledError:
                pass
            except grpc.aio.AioRpcError as error:
                if error.code() in TOLD:
                    self.world.trace("told", self.process.name, error.code().name, error.details())
                    return
                if error.code() not in COME_BACK:
                    self._told.wrong.append(f"answers: {error.code().name}: {error.details()}")
                    return
            await asyncio.sleep(pause * (0.5 + self._chance.random()))
            pause = min(pause * 2, 3.0)

    def _cancel_later(self, task: asyncio.Future[None]) -> None:
        span = random.Random(self._chance.random()).random() ** 4
        asyncio.get_running_loop().call_later(span, task.cancel)
