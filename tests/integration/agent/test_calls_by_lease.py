"""Whom an agent asks for secrets: the coordinator that its lease is held by, and nobody while nobody speaks for it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from tests.grpc_server import serving

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import secret_service_pb2 as secret_wire
from penstock.agent.v1 import secret_service_pb2_grpc as rpc
from penstock_agent.core.inputs import Granted
from penstock_agent.runtime.decoding import Decoder
from penstock_agent.runtime.secret_fetches import SecretFetcher
from penstock_agent.runtime.stubs import LeaseStubs, Stubs
from penstock_agent.runtime.wire import Work
from penstock_agent.secrets.sources import OwnSecrets

PATIENCE = 60.0


class Keeping(rpc.SecretServiceServicer):
    """Says as a secret's value who it is, and keeps what it was named by."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.named: list[str] = []

    async def Get(self, request: secret_wire.GetSecretsRequest, context: Any) -> secret_wire.GetSecretsResponse:
        self.named += [value for key, value in context.invocation_metadata() if key == "penstock-link"]
        values = [secret_wire.SecretValue(name=name, value=f"of the {self.name}") for name in request.names]
        return secret_wire.GetSecretsResponse(secrets=values)


class Disowning(Keeping):
    """Does not know the lease any more."""

    def __init__(self, name: str, before: Callable[[], None]) -> None:
        super().__init__(name)
        self._before = before

    async def Get(self, request: secret_wire.GetSecretsRequest, context: Any) -> secret_wire.GetSecretsResponse:
        self._before()
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no such lease")
        raise AssertionError


def served(servicer: Keeping) -> AbstractAsyncContextManager[str]:
    return serving(functools.partial(rpc.add_SecretServiceServicer_to_server, servicer))


@asynccontextmanager
async def called(servicer: Keeping, name: str = "") -> AsyncIterator[Stubs]:
    async with served(servicer) as address, grpc.aio.insecure_channel(address) as channel:
        yield Stubs.of(channel, (("penstock-link", name),) if name else ())


def work() -> Work:
    spec = wire.TaskSpec(command=wire.CommandTask(argv=["true"]), secrets=[wire.TaskSecret(name="key", env="KEY")])
    ref = wire.LeaseRef(run_id=b"r" * 16, step=1, item=-1, token=7)
    grants = wire.LeaseGrants(grants=[wire.LeaseGrant(grant_seq=1, lease=ref, attempt=1, task=1, task_spec=spec)])
    granted = Decoder(1).decode(wire.CoordinatorMessage(lease_grants=grants))
    assert isinstance(granted, Granted)
    (grant,) = granted.grants
    assert isinstance(grant.work, Work)
    return grant.work


class Held:
    """The stream that the lease is held by."""

    def __init__(self, stream: int | None) -> None:
        self.stream = stream
        self.stubs = LeaseStubs(lambda ref: self.stream)

    async def value(self, folder: Path) -> str:
        (given,) = await SecretFetcher(OwnSecrets(folder, {}), self.stubs).get(work())
        return given.value


async def test_of_a_lease_that_nobody_speaks_for_nobody_is_asked(tmp_path: Path) -> None:
    head, member, held = Keeping("head"), Keeping("member"), Held(None)
    async with asyncio.timeout(PATIENCE), called(head) as home, called(member, "member@7") as link:
        held.stubs.use(1, home)
        asking = asyncio.create_task(held.value(tmp_path))
        held.stubs.use(2, link)
        held.stream = 2
        held.stubs.look_again()
        assert await asking == "of the member"
    assert (head.named, member.named) == ([], ["member@7"])


async def test_what_one_refuses_that_has_the_lease_no_more_is_asked_of_the_next(tmp_path: Path) -> None:
    held, head = Held(2), Keeping("head")
    member = Disowning("member", lambda: setattr(held, "stream", 1))
    async with asyncio.timeout(PATIENCE), called(head) as home, called(member) as link:
        held.stubs.use(1, home)
        held.stubs.use(2, link)
        assert await held.value(tmp_path) == "of the head"
