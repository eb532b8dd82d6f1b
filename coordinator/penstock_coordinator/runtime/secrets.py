"""Users' secrets: kept encrypted, given to the attempts that name them, shown to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.run.explain.secrets import missing_secret
from penstock_coordinator.ports import CannotDecrypt, Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from penstock_coordinator.core.fleet.leases import LeaseKey
    from penstock_coordinator.core.plan.secret_names import NamedSecret
    from penstock_coordinator.ports import Clock, SecretCipher, SecretRow, SecretStore
    from penstock_coordinator.runtime.supervisor import Supervisor

SHORTEST, LARGEST = 4, 16 * 1024
"""Characters; bytes. What is shorter would be masked everywhere."""
PAGE = 500
MAX_WARNINGS = 20


class NoKey(Exception):
    """The coordinator has nothing to encrypt with."""


class Unreadable(Exception):
    """A secret cannot be decrypted. The text says why."""


class NotNamed(Exception):
    """The step does not name the secret."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class SecretVault:
    """`cipher`: None, if there is no key."""

    def __init__(self, store: SecretStore, cipher: SecretCipher | None, clock: Clock) -> None:
        self._store = store
        self._cipher = cipher
        self._clock = clock

    def _needed(self) -> SecretCipher:
        if self._cipher is None:
            raise NoKey
        return self._cipher

    async def put(self, name: str, value: str) -> SecretRow:
        """Durable when it returns. Raises `NoKey`, `Unavailable`."""
        cipher = self._needed()
        return await self._store.put(name, cipher.key_id, cipher.encrypt(name, value), self._clock.now())

    async def list_secrets(self, limit: int, after: str = "") -> list[SecretRow]:
        """By name, those behind the name. Raises `Unavailable`."""
        return await self._store.list_secrets(limit, after)

    async def delete(self, name: str) -> bool:
        """False: there was none. Raises `Unavailable`."""
        return await self._store.delete(name)

    async def reveal(self, names: Sequence[str]) -> dict[str, str]:
        """The values of those that there are. Raises `NoKey`, `Unreadable`, `Unavailable`."""
        rows = await self._store.get(names)
        return {row.name: self._reveal(row) for row in rows}

    def _reveal(self, row: SecretRow) -> str:
        try:
            return self._needed().decrypt(row.name, row.key_id, row.content)
        except CannotDecrypt as error:
            raise Unreadable(f"the secret {row.name!r} cannot be decrypted: {error}") from None

    async def rotate(self) -> int:
        """Encrypts again what is not encrypted with the newest key, and tells how many that were. One that is set
        meanwhile is left as it was set. Raises `NoKey`, `Unreadable`, `Unavailable`."""
        cipher, done, after = self._needed(), 0, ""
        while rows := await self._store.list_secrets(PAGE, after):
            after = rows[-1].name
            for row in rows:
                if row.key_id != cipher.key_id:
                    content = cipher.encrypt(row.name, self._reveal(row))
                    done += await self._store.replace(row, cipher.key_id, content)
        return done


async def lacking_secrets(store: SecretStore, named: Collection[str]) -> frozenset[str]:
    """Those of them that the coordinator does not keep: agents do not tell what they have of their own. None while it
    cannot be known."""
    if not named:
        return frozenset()
    try:
        kept = await store.get(sorted(named))
    except Unavailable:
        return frozenset()
    return frozenset(named) - {row.name for row in kept}


async def secret_warnings(store: SecretStore, named: Sequence[NamedSecret]) -> list[str]:
    """What whoever submits the pipeline is told of the secrets that are not kept: never a refusal, for an agent may
    have them, or the value may be set before the step runs."""
    lacking = await lacking_secrets(store, {each.name for each in named})
    said = list(dict.fromkeys(missing_secret(each) for each in named if each.name in lacking))
    more = len(said) - MAX_WARNINGS
    return said if more <= 0 else [*said[:MAX_WARNINGS], f"So it is with {more:,} more secrets that steps name."]


async def secrets_for(
    supervisor: Supervisor, vault: SecretVault, lease: tuple[LeaseKey, int], credential: str, names: Sequence[str]
) -> dict[str, str]:
    """What an attempt gets: nothing but what its step names, as long as its lease lives. Raises `WrongCredential`,
    `LeaseOver`, `NotNamed`, and what `SecretVault.reveal` raises."""
    key, token = lease
    await supervisor.credentials.require_live(key, token, credential)
    actor = supervisor.actor(key[0])
    named = set() if actor is None else {use.name for use in actor.plan.steps[key[1]].secrets}
    for name in names:
        if name not in named:
            raise NotNamed(name)
    return await vault.reveal(names)
