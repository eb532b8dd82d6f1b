"""Streams of agents, recorded between a real agent and a real coordinator: both directions in the order in which they
passed, and what was done to either side besides. No instants.

A tape is a JSON file; see README.md for its lines.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import Message

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1 import bundle_service_pb2_grpc as bundle_rpc

PATIENCE = 60.0
UNREACHABLE = "0" * 64
"""The digest of a bundle that never comes: what needs it is accepted and does not start."""
MISSING = "1" * 64
"""Of one that is not there."""
STREAMS = Path(__file__).parent / "streams"
CONNECT = "/penstock.agent.v1.AgentService/Connect"


class Cue(msgspec.Struct, omit_defaults=True):
    """What was done besides what was said.

    To the coordinator: `start` (a run of the specification `spec`, whose id was `run_id`), `cancel`, `pause` and
    `resume` (of the run), `expire` (of all leases), `drain` (of the agent), `restart` (after a kill), `shutdown` (with
    a Goaway), `hold` and `let_go` (commits). To the agent: `sigterm`, `kill`, `revive`. To the stream: `break`; while
    it is broken no other one is opened, until `mend`.
    """

    name: str
    run_id: bytes = b""
    spec: bytes = b""


class Line(msgspec.Struct, omit_defaults=True):
    """`who`: "agent" or "coordinator", with a serialised message of which `body` is the kind; or "cue"."""

    who: str
    body: str = ""
    message: bytes = b""
    cue: Cue | None = None

    @property
    def said(self) -> Any:
        kind = wire.AgentMessage if self.who == "agent" else wire.CoordinatorMessage
        return kind.FromString(self.message)


class Tape(msgspec.Struct, omit_defaults=True):
    build: str
    story: str
    slots: int
    lines: list[Line] = []

    def cue(self, name: str, run_id: bytes = b"", spec: bytes = b"") -> None:
        self.lines.append(Line("cue", cue=Cue(name, run_id, spec)))


def load(path: Path) -> Tape:
    return msgspec.json.decode(path.read_bytes(), type=Tape)


def save(tape: Tape, folder: Path) -> None:
    lines = b",\n".join(msgspec.json.encode(line) for line in tape.lines)
    head = msgspec.json.encode(Tape(tape.build, tape.story, tape.slots))
    (folder / f"{tape.story}.json").write_bytes(head[:-1] + b',"lines":[\n' + lines + b"\n]}\n")


def refs_in(message: Message) -> Iterator[wire.LeaseRef]:
    """All names of leases in a message."""
    if isinstance(message, wire.LeaseRef):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for each in value if field.is_repeated else (value,):
            yield from refs_in(each)


class Relay(bundle_rpc.BundleServiceServicer):
    """Between an agent and a coordinator: forwards the stream byte by byte and writes it down. Log lines are taken and
    dropped; bundles never come."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.address = ""
        self.target = ""
        self.open = asyncio.Event()
        self.open.set()
        self._broken = asyncio.Event()
        self._server = grpc.aio.server()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        connect: Any = grpc.stream_stream_rpc_method_handler(self._connect)
        logs: Any = grpc.stream_unary_rpc_method_handler(
            self._logs, response_serializer=wire.PushLogsResponse.SerializeToString
        )
        service = "penstock.agent.v1.AgentService"
        handlers = grpc.method_handlers_generic_handler(service, {"Connect": connect, "PushLogs": logs})
        bundle_rpc.add_BundleServiceServicer_to_server(self, self._server)
        self._server.add_generic_rpc_handlers((handlers,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    def cut(self) -> None:
        """Break what is open; nothing else is opened before `mend`."""
        self.tape.cue("break")
        self.open.clear()
        self._broken.set()

    def mend(self) -> None:
        self.tape.cue("mend")
        self._broken.clear()
        self.open.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Of what has passed."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _logs(self, requests: AsyncIterator[bytes], context: Any) -> wire.PushLogsResponse:
        async for _ in requests:
            pass
        return wire.PushLogsResponse()

    async def Get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.digest == MISSING:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
        await asyncio.Event().wait()
        yield None

    async def Has(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Upload(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    async def _connect(self, request_iterator: Any, context: Any) -> None:
        if not self.open.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the line is down")
        async with grpc.aio.insecure_channel(self.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call: Any = channel.stream_stream(CONNECT)()
            pumps = {
                asyncio.create_task(self._up(context, call)),
                asyncio.create_task(self._down(call, context)),
                asyncio.create_task(self._broken.wait()),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                call.cancel()
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        if self._broken.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the line broke")

    async def _up(self, context: Any, call: Any) -> None:
        while (data := await context.read()) is not grpc.aio.EOF:
            self._note("agent", wire.AgentMessage.FromString(data).WhichOneof("body"), data)
            await call.write(data)
        await call.done_writing()
        await asyncio.Event().wait()

    async def _down(self, call: Any, context: Any) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (data := await call.read()) is not grpc.aio.EOF:
                self._note("coordinator", wire.CoordinatorMessage.FromString(data).WhichOneof("body"), data)
                await context.write(data)

    def _note(self, who: str, body: str | None, data: bytes) -> None:
        self.tape.lines.append(Line(who, body or "", data))
        self._changed.set()
