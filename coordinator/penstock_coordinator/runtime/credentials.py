"""What an agent shows to be let in: the credential of a lease, and signatures that name their key.

A credential is made with the grant and kept nowhere. Whoever has the keys can check it, so any coordinator of the
database can. That the lease is live besides is for its owner to know.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.leases import LeaseKey, LeaseTable
    from penstock_coordinator.ports import Clock, Ids, SigningKey, SigningKeyStore

CREDENTIAL_BYTES = 16
LOOK_AGAIN = 1_000_000
"""Microseconds: keys that this coordinator does not know are looked for at most so often, whatever is shown to it."""
_BLOCK = 64
_LEASE = b"penstock lease"
_pack = struct.Struct(">16sIqQ").pack


class WrongCredential(Exception):
    """It is not that of the lease, or the key that made it has expired."""


class LeaseOver(Exception):
    """The credential is right, and the lease has ended or is somebody else's."""


class _Hmac:
    """HMAC-SHA256 with the key worked in already: half the time of `hmac.digest` for a short message."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


class Keyring:
    """The keys, as they were when they were last read."""

    def __init__(self, store: SigningKeyStore, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._keys: list[SigningKey] = []
        self._prepared: dict[bytes, dict[int, _Hmac]] = {}
        """By purpose and number of the key."""
        self._newest: dict[bytes, tuple[int, _Hmac]] = {}
        self._looked = 0

    async def load(self) -> None:
        """Makes the first key on a new database. Before this nothing can be signed. Raises `Unavailable`."""
        self._take(await self._store.ensure(self._ids.key(), self._clock.now()))

    async def refresh(self) -> None:
        """Keys that were made since, by whomever. Raises `Unavailable`."""
        self._take(await self._store.keys(self._clock.now()))

    async def look_again(self) -> bool:
        """As `refresh`, unless it was done just now: then False."""
        now = self._clock.monotonic()
        if self._looked and now - self._looked < LOOK_AGAIN:
            return False
        self._looked = now
        await self.refresh()
        return True

    def _take(self, keys: list[SigningKey]) -> None:
        if not keys:
            return  # All of them were removed by hand: what is known is better than nothing.
        self._keys = keys
        for purpose in self._prepared:
            self._prepare(purpose)

    def _prepare(self, purpose: bytes) -> dict[int, _Hmac]:
        """A key for each purpose, derived: what was signed for one proves nothing for another."""
        made = {key.number: _Hmac(_Hmac(key.secret[:_BLOCK]).digest(purpose)) for key in self._keys}
        self._prepared[purpose] = made
        self._newest[purpose] = next(iter(made.items()))
        return made

    def newest(self, purpose: bytes) -> tuple[int, _Hmac]:
        if purpose not in self._newest:
            self._prepare(purpose)
        return self._newest[purpose]

    def live(self, purpose: bytes) -> dict[int, _Hmac]:
        """Those that verify now, by number."""
        now = self._clock.now()
        prepared = self._prepared.get(purpose) or self._prepare(purpose)
        return {
            key.number: prepared[key.number] for key in self._keys if key.expire_time is None or key.expire_time > now
        }


class Signer:
    """Signatures for one purpose, each with the number of its key."""

    def __init__(self, keyring: Keyring, purpose: str) -> None:
        """Signatures of one purpose are worth nothing for another one."""
        self._keyring = keyring
        self._purpose = purpose.encode()

    def sign(self, content: bytes) -> tuple[int, str]:
        """The number of the newest key, and the signature: 64 hexadecimal digits."""
        number, key = self._keyring.newest(self._purpose)
        return number, key.digest(content).hex()

    async def verify(self, number: int, content: bytes, signature: str) -> bool:
        """Whether the key of that number, which has not expired, has signed the content. Raises `Unavailable`."""
        key = self._keyring.live(self._purpose).get(number)
        if key is None and await self._keyring.look_again():
            key = self._keyring.live(self._purpose).get(number)
        return key is not None and _same(key.digest(content).hex(), signature)


class Credentials:
    """Of leases."""

    def __init__(self, keyring: Keyring, leases: LeaseTable) -> None:
        self._keyring = keyring
        self._leases = leases

    def issue(self, key: LeaseKey, token: int) -> str:
        """32 hexadecimal digits."""
        _, signing = self._keyring.newest(_LEASE)
        return signing.digest(_pack(*key, token))[:CREDENTIAL_BYTES].hex()

    async def verify(self, key: LeaseKey, token: int, credential: str) -> None:
        """Raises `WrongCredential`, `Unavailable`."""
        if self._matches(key, token, credential):
            return
        if not (await self._keyring.look_again() and self._matches(key, token, credential)):
            raise WrongCredential

    def _matches(self, key: LeaseKey, token: int, credential: str) -> bool:
        try:
            content = _pack(*key, token)
        except struct.error:  # Numbers that no lease has.
            return False
        if len(key[0]) != 16:
            return False
        made = (signing.digest(content)[:CREDENTIAL_BYTES].hex() for signing in self._keyring.live(_LEASE).values())
        return any(_same(one, credential) for one in made)

    async def require_live(self, key: LeaseKey, token: int, credential: str) -> None:
        """That it is the credential of a lease that this coordinator counts as alive. Raises `WrongCredential`,
        `LeaseOver`, `Unavailable`."""
        await self.verify(key, token, credential)
        lease = self._leases.find(key)
        if lease is None or lease.token != token:
            raise LeaseOver


def _same(made: str, shown: str) -> bool:
    """In a time that does not tell where they differ."""
    return hmac.compare_digest(made.encode(), shown.encode("utf-8", "replace"))
