"""Secrets of users: kept encrypted, and what encrypts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SecretRow:
    name: str
    key_id: str
    """Of the key that the content is encrypted with."""
    content: bytes
    create_time: int
    update_time: int
    """Of the value; encrypting it again does not count."""


class SecretStore(Protocol):
    """All methods raise `Unavailable`."""

    async def put(self, name: str, key_id: str, content: bytes, now: int) -> SecretRow:
        """Made, or changed."""

    async def get(self, names: Sequence[str]) -> list[SecretRow]:
        """Those of them that there are."""

    async def list_secrets(self, limit: int, after: str = "") -> list[SecretRow]:
        """By name, those behind the name. Names are in the order of their bytes."""

    async def delete(self, name: str) -> bool:
        """False: there was none."""

    async def replace(self, row: SecretRow, key_id: str, content: bytes) -> bool:
        """The same value, encrypted again. False, and nothing is changed, if it is not as in the row any more."""


class CannotDecrypt(Exception):
    """No key here fits what was kept, or it was tampered with."""


class SecretCipher(Protocol):
    @property
    def key_id(self) -> str:
        """Of the newest key, which encrypts."""

    def encrypt(self, name: str, value: str) -> bytes:
        """What comes out is worth nothing under another name."""

    def decrypt(self, name: str, key_id: str, content: bytes) -> str:
        """Raises `CannotDecrypt`."""
