"""The agent's side of a tape, played to the present coordinator: it must answer as it did, one thing for another.

What the coordinator says may be cut into other messages, and more of it may come; everything that it said on the tape
it must say again, of the leases that are now what those on the tape were. It may ask for a result before it says that
nobody wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from tests.replay.stories import House
from tests.replay.tapes import PATIENCE, Cue, Line, Tape, refs_in

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1.pipeline_pb2 import PipelineSpec

Name = tuple[bytes, int, int, int]


def name_of(ref: wire.LeaseRef) -> Name:
    return ref.run_id, ref.step, ref.item, ref.token


class PlayedAgent:
    def __init__(self, tape: Tape, house: House) -> None:
        self._tape = tape
        self._house = house
        self._runs: dict[bytes, bytes] = {}
        """Ids of runs, by those on the tape."""
        self._leases: dict[Name, wire.LeaseRef] = {}
        """By those on the tape."""
        self._heard: list[wire.CoordinatorMessage] = []
        """What is not matched yet with what is on the tape, each with one thing in it."""
        self._changed = asyncio.Event()
        self._call: Any = None
        self._channel: grpc.aio.Channel | None = None
        self._reader: asyncio.Task[None] | None = None
        self._echo = 0
        self._seq = 0

    async def play(self) -> None:
        for line in self._tape.lines:
            if line.cue is not None:
                await self._follow(line.cue)
            elif line.who == "agent":
                await self._say(line.said)
            else:
                await self._expect(line)

    # --- what the agent says

    async def _say(self, message: wire.AgentMessage) -> None:
        if message.WhichOneof("body") == "hello":
            await self._open()
        for ref in refs_in(message):
            ref.CopyFrom(self._leases[name_of(ref)])
        if message.WhichOneof("body") == "heartbeat":
            message.heartbeat.echo = self._echo
        self._seq += 1
        assert message.seq == self._seq, "the tape has every message"
        await self._call.write(message)

    async def _open(self) -> None:
        await self.close()
        self._seq = self._echo = 0
        address = self._house.coordinator.address
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._call = AgentServiceStub(self._channel).Connect()
        self._reader = asyncio.create_task(self._read(self._call))

    async def _read(self, call: Any) -> None:
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                self._heard += _single(message)
                if message.HasField("heartbeat_ack"):
                    self._echo = message.heartbeat_ack.echo
                self._changed.set()
        except grpc.aio.AioRpcError:
            return

    async def close(self) -> None:
        if self._call is not None:
            self._call.cancel()
            assert self._reader is not None
            assert self._channel is not None
            await asyncio.wait({self._reader})
            await self._channel.close()
            self._call = None

    # --- what the coordinator says

    async def _expect(self, line: Line) -> None:
        for one in _single(line.said):
            if one.HasField("lease_grants"):
                await self._expect_grant(one.lease_grants.grants[0])
            else:
                await self._await(one, lambda heard, one=one: self._same(one, heard))  # type: ignore[misc]  # the default binds it

    async def _expect_grant(self, grant: wire.LeaseGrant) -> None:
        run_id = self._runs[grant.lease.run_id]

        def is_same(heard: wire.CoordinatorMessage) -> bool:
            if not heard.HasField("lease_grants"):
                return False
            other = heard.lease_grants.grants[0]
            return (other.lease.run_id, other.lease.step, other.lease.item, other.attempt) == (
                run_id, grant.lease.step, grant.lease.item, grant.attempt,
            )  # fmt: skip

        found = (await self._await(grant, is_same)).lease_grants
        self._leases[name_of(grant.lease)] = found.grants[0].lease
        assert found.ttl.ToMicroseconds() > 0
        assert 0 < found.basis_seq <= self._seq
        same = ("display_name", "step_name", "pipeline", "inputs", "parameters", "task_spec", "place")
        for field in same:
            assert getattr(found.grants[0], field) == getattr(grant, field), field

    async def _await(
        self, wanted: Any, is_wanted: Callable[[wire.CoordinatorMessage], bool]
    ) -> wire.CoordinatorMessage:
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    for heard in self._heard:
                        if is_wanted(heard):
                            self._heard.remove(heard)
                            return heard
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"it was not said: {wanted}; but these: {self._heard}") from None

    def _same(self, one: wire.CoordinatorMessage, heard: wire.CoordinatorMessage) -> bool:
        body = one.WhichOneof("body")
        if heard.WhichOneof("body") != body:
            return False
        mine = [name_of(self._leases[name_of(ref)]) for ref in refs_in(one)]
        if mine != [name_of(ref) for ref in refs_in(heard)]:
            return False
        match body:
            case "welcome":
                return heard.welcome.protocol_version == one.welcome.protocol_version
            case "result_acks":
                return _same_ack(one.result_acks.acks[0], heard.result_acks.acks[0])
            case "lease_verdicts":
                ours, theirs = one.lease_verdicts.verdicts[0].verdict, heard.lease_verdicts.verdicts[0].verdict
                return ours == theirs or (ours, theirs) == (wire.VERDICT_DROP_RESULT, wire.VERDICT_SEND_RESULT)
            case "goaway":
                return one.goaway.reason == heard.goaway.reason
        return True

    # --- what is done besides

    async def _follow(self, cue: Cue) -> None:
        match cue.name:
            case "start":
                self._runs[cue.run_id] = await self._house.coordinator.start(PipelineSpec.FromString(cue.spec))
            case "break" | "kill":
                await self.close()
            case "mend" | "sigterm" | "revive":
                pass
            case _:
                await self._house.follow(cue.name, self._runs.get(cue.run_id, b""))


def _same_ack(one: wire.ResultAck, heard: wire.ResultAck) -> bool:
    """What is remembered of a run that has come to rest decides whether a repetition is a duplicate or stale."""
    dropped = {wire.RESULT_ACK_STATUS_DUPLICATE, wire.RESULT_ACK_STATUS_STALE}
    same = one.status == heard.status or {one.status, heard.status} == dropped
    return one.result_id == heard.result_id and same


def _single(message: wire.CoordinatorMessage) -> Iterator[wire.CoordinatorMessage]:
    """The same in messages that say one thing each."""
    body = message.WhichOneof("body")
    lists = {"lease_grants": "grants", "result_acks": "acks", "lease_verdicts": "verdicts"}
    field = lists.get(body or "", "leases" if body in ("cancel", "return_leases") else "")
    if not field:
        yield message
        return
    for each in getattr(getattr(message, body or ""), field):
        one = wire.CoordinatorMessage()
        one.CopyFrom(message)
        del getattr(getattr(one, body or ""), field)[:]
        getattr(getattr(one, body or ""), field).append(each)
        yield one
