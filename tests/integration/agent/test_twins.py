"""An agent whose id is in use ends, and says why."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from penstock.agent.v1 import agent_service_pb2_grpc as rpc
from penstock_agent.runtime import stream
from penstock_agent.runtime.stream import Connection, IdInUse


class Refusing(rpc.AgentServiceServicer):
    async def Connect(self, request_iterator: object, context: Any) -> None:  # type: ignore[override]  # read/write style
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "give each agent an id of its own (--id)")

    async def PushLogs(self, request_iterator: object, context: Any) -> Any:
        raise NotImplementedError


class Listener:
    """Of a stream that is never welcomed."""

    def stream_opened(self, *_: object) -> Listener:
        return self

    def says(self, _: object) -> bool:
        return False

    def closed(self) -> None: ...

    def stamp(self) -> int:
        return 1

    def written(self, *_: object) -> None: ...

    def is_held(self, _: object) -> bool:
        return False


async def test_an_agent_that_is_refused_for_its_id_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "REFUSED_WITHIN", 0.2)
    server = grpc.aio.server()
    rpc.add_AgentServiceServicer_to_server(Refusing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(IdInUse, match="--id"):
            async with asyncio.timeout(60):
                await Connection(f"127.0.0.1:{port}", Listener()).run()
    finally:
        await server.stop(None)
