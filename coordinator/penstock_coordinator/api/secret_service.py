"""penstock.v1.SecretService, and penstock.agent.v1.SecretService."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from penstock.agent.v1 import secret_service_pb2 as agent_pb
from penstock.agent.v1.secret_service_pb2_grpc import SecretServiceServicer as AgentSecretServiceServicer
from penstock.v1 import secret_service_pb2 as pb
from penstock.v1.secret_service_pb2_grpc import SecretServiceServicer
from penstock_coordinator.api.encoding.values import instant
from penstock_coordinator.api.errors import CallError, failed_precondition, invalid, not_found
from penstock_coordinator.api.fields import name_of
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.runtime.credentials import LeaseOver, WrongCredential
from penstock_coordinator.runtime.secrets import LARGEST, SHORTEST, NoKey, NotNamed, Unreadable, secrets_for
from penstock_coordinator.runtime.session import lease_key

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports import SecretRow
    from penstock_coordinator.runtime.secrets import SecretVault
    from penstock_coordinator.runtime.supervisor import Supervisor

MOST_NAMES = 64


class SecretService(SecretServiceServicer):
    def __init__(self, vault: SecretVault) -> None:
        self._vault = vault

    async def Set(self, request: pb.SetSecretRequest, context: Context) -> pb.SetSecretResponse:
        name = name_of(request.name, "name", "a secret")
        _check_value(request.value)
        try:
            row = await self._vault.put(name, request.value)
        except NoKey:
            raise _no_key() from None
        return pb.SetSecretResponse(secret=_encoded(row))

    async def List(self, request: pb.ListSecretsRequest, context: Context) -> pb.ListSecretsResponse:
        size, tokens = page_size(request.page_size), PageTokens(request, str)
        rows = await self._vault.list_secrets(size + 1, tokens.read(request.page_token) or "")
        return pb.ListSecretsResponse(
            secrets=[_encoded(row) for row in rows[:size]],
            next_page_token=tokens.write(rows[size - 1].name) if len(rows) > size else "",
        )

    async def Delete(self, request: pb.DeleteSecretRequest, context: Context) -> pb.DeleteSecretResponse:
        name = name_of(request.name, "name", "a secret")
        if not await self._vault.delete(name):
            raise not_found(
                "name", "UNKNOWN_SECRET", f"there is no secret {quoted(name)}: `penstock secrets list` (List) names all"
            )
        return pb.DeleteSecretResponse()

    async def Rotate(self, request: pb.RotateSecretsRequest, context: Context) -> pb.RotateSecretsResponse:
        try:
            return pb.RotateSecretsResponse(rotated=await self._vault.rotate())
        except NoKey:
            raise _no_key() from None
        except Unreadable as error:
            raise _unreadable(error) from None


class AgentSecretService(AgentSecretServiceServicer):
    def __init__(self, supervisor: Supervisor, vault: SecretVault) -> None:
        self._supervisor = supervisor
        self._vault = vault

    async def Get(self, request: agent_pb.GetSecretsRequest, context: Context) -> agent_pb.GetSecretsResponse:
        if len(request.names) > MOST_NAMES:
            raise invalid("names", f"are {len(request.names):,}, and {MOST_NAMES} is the limit")
        lease = lease_key(request.lease), request.lease.token
        try:
            found = await secrets_for(self._supervisor, self._vault, lease, request.credential, request.names)
        except WrongCredential:
            raise _denied("credential", "WRONG_CREDENTIAL", "the credential is not that of the lease") from None
        except NotNamed as error:
            text = f"the step does not name the secret {quoted(error.name)}"
            raise _denied("names", "SECRET_NOT_NAMED", text) from None
        except LeaseOver:
            raise failed_precondition("lease", "LEASE_OVER", "the lease has ended") from None
        except NoKey:
            raise _no_key() from None
        except Unreadable as error:
            raise _unreadable(error) from None
        values = [agent_pb.SecretValue(name=name, value=found[name]) for name in request.names if name in found]
        return agent_pb.GetSecretsResponse(secrets=values)


def _check_value(value: str) -> None:
    """Says nothing of the value but how long it is."""
    if len(value) < SHORTEST:
        raise invalid(
            "value",
            f"has {len(value)} characters: give it at least {SHORTEST}, what is shorter cannot be masked in logs",
        )
    if len(value.encode()) > LARGEST:
        raise invalid(
            "value", f"has {len(value.encode()):,} bytes, and {LARGEST:,} is the limit: keep a key to it here"
        )
    if "\0" in value:
        raise invalid("value", "has a NUL character, which no environment can hold: encode it, for example in base64")


def _encoded(row: SecretRow) -> pb.Secret:
    return pb.Secret(
        name=row.name,
        create_time=instant(row.create_time),
        update_time=instant(row.update_time),
        key_id=row.key_id,
    )


def _denied(field: str, reason: str, message: str) -> CallError:
    return CallError(grpc.StatusCode.PERMISSION_DENIED, reason, f"{field}: {message}")


def _no_key() -> CallError:
    return CallError(
        grpc.StatusCode.FAILED_PRECONDITION,
        "NO_SECRETS_KEY",
        "the coordinator has no key to keep secrets with: make one with `penstock secrets new-key`, set"
        " PENSTOCK_SECRETS_KEY or PENSTOCK_SECRETS_KEY_FILE of the coordinator, and start it again",
    )


def _unreadable(error: Unreadable) -> CallError:
    text = f"{error}. Put the key back behind the newest one in PENSTOCK_SECRETS_KEY, or set the secret again"
    return CallError(grpc.StatusCode.FAILED_PRECONDITION, "SECRET_UNREADABLE", text)
