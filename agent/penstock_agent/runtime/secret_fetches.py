"""The values of the secrets that attempts name: the agent's own, else those of the coordinator that the lease is held
by."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import grpc
import grpc.aio

from penstock.agent.v1 import secret_service_pb2 as wire
from penstock.agent.v1.secret_service_pb2_grpc import SecretServiceStub
from penstock_agent.executors.channel import MOST_SECRET_BYTES, GivenSecret
from penstock_agent.own_log import OwnLog
from penstock_agent.runtime.calls import CallLost, lost_when_cancelled
from penstock_agent.runtime.stubs import LeaseStubs
from penstock_agent.runtime.wire import Work
from penstock_agent.secrets.masking import SHORTEST
from penstock_agent.secrets.sources import LARGEST, BadSecret, OwnSecrets, variable_of

log = OwnLog(__name__)

RETRY_AFTER = 0.2
MOST_WAIT = 5.0
ANSWER_SECONDS = 10.0
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)
"""Asked again, it may answer; for as long as the lease lives."""


class SecretUnavailable(Exception):
    """The attempt cannot have what it names. The text names the secret and the remedy."""


class SecretFetcher:
    def __init__(self, own: OwnSecrets, stubs: LeaseStubs) -> None:
        self._own = own
        self._stubs = stubs

    async def get(self, work: Work) -> list[GivenSecret]:
        """All that the step names. Waits while nobody speaks for the lease, and is needed for it. Raises
        `SecretUnavailable`."""
        try:
            found = {use.name: value for use in work.kind.secrets if (value := self._own.get(use.name)) is not None}
        except BadSecret as error:
            raise SecretUnavailable(str(error)) from None
        missing = [use.name for use in work.kind.secrets if use.name not in found]
        if missing:
            found |= await self._ask(work, missing)
        for name in missing:
            if name not in found:
                raise SecretUnavailable(_nowhere(name))
        _check(found.items())
        return [GivenSecret(use.name, found[use.name], use.env, use.file) for use in work.kind.secrets]

    async def _ask(self, work: Work, names: list[str]) -> dict[str, str]:
        request = wire.GetSecretsRequest(lease=work.ref, credential=work.grant.credential, names=names)
        wait = RETRY_AFTER
        while True:
            stubs = await self._stubs.of(work.ref)
            try:
                return await _ask_once(stubs.secrets, request)
            except grpc.aio.AioRpcError as error:
                # What one refuses that the lease is not held by any more is asked of the next.
                if error.code() not in _PASSING and self._stubs.now(work.ref) is stubs:
                    text = f"the coordinator does not give {_named(names)}: {error.details()}"
                    raise SecretUnavailable(text) from None
                log.info("secrets_postponed", code=error.code().name, **work.names)
            except CallLost:
                pass
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  # spreads agents, guards nothing
            wait = min(wait * 2, MOST_WAIT)


async def _ask_once(stub: SecretServiceStub, request: wire.GetSecretsRequest) -> dict[str, str]:
    with lost_when_cancelled():
        response = await stub.Get(request, timeout=ANSWER_SECONDS)
    return {each.name: each.value for each in response.secrets}


def _check(found: Iterable[tuple[str, str]]) -> None:
    total = 0
    for name, value in found:
        size = len(value.encode("utf-8", "surrogatepass"))
        total += size
        if len(value) < SHORTEST:
            raise SecretUnavailable(
                f"the secret {name!r} has {len(value)} characters, and what has less than {SHORTEST} cannot be masked:"
                " choose a longer one"
            )
        if size > LARGEST or "\0" in value:
            raise SecretUnavailable(
                f"the secret {name!r} has more than {LARGEST:,} bytes, or a NUL: keep a key to it here, or encode it"
            )
    if total > MOST_SECRET_BYTES:
        raise SecretUnavailable(
            f"the secrets of the step have {total:,} bytes together, and {MOST_SECRET_BYTES:,} is the limit: name fewer"
        )


def _nowhere(name: str) -> str:
    return (
        f"there is no secret {name!r}: `penstock secrets set {name}` gives it to the coordinator, {variable_of(name)}"
        f" or a file {name} in PENSTOCK_AGENT_SECRETS_DIR to this agent"
    )


def _named(names: list[str]) -> str:
    return f"the secret{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
