"""The keys that sign what agents show to be let in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SigningKey:
    number: int
    """Grows with each key; never used again."""
    secret: bytes
    create_time: int
    expire_time: int | None = None
    """From then on nothing that it signed is accepted. None: it is the newest."""

    def __repr__(self) -> str:
        """Without the secret: what is printed ends up in logs."""
        return f"SigningKey(number={self.number})"


class SigningKeyStore(Protocol):
    """All methods raise `Unavailable`."""

    async def keys(self, now: int) -> list[SigningKey]:
        """Those that have not expired, the newest first."""

    async def ensure(self, secret: bytes, now: int) -> list[SigningKey]:
        """As `keys`, and the first one is made of the secret if there is none. Of several that ask at once one makes
        it."""

    async def rotate(self, secret: bytes, now: int, others_expire: int) -> SigningKey:
        """A new key, the newest from now on. The former ones expire then, or earlier if that was said before; those
        that have expired are removed."""
