"""`SecretCipher` by AES-256-GCM. The name of a secret is authenticated with its value, so that two that are exchanged
in the database are noticed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from penstock_coordinator.ports import CannotDecrypt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class BadKey(Exception):
    """The text says what is wrong with the keys, and shows nothing of them."""


def read_keys(text: str) -> list[bytes]:
    """Keys in base64, the newest first, with white space or commas between them. Raises `BadKey`."""
    keys: list[bytes] = []
    for number, word in enumerate(text.replace(",", " ").split(), 1):
        try:
            key = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise BadKey(
                f"key {number} is not {KEY_BYTES} bytes in base64: `penstock secrets new-key` makes one that is"
            )
        keys.append(key)
    if not keys:
        raise BadKey("there is no key in it: `penstock secrets new-key` makes one")
    return keys


class KeySettings(Protocol):
    """Where keys are found."""

    @property
    def secrets_key(self) -> Hidden | None: ...

    @property
    def secrets_key_file(self) -> Path | None: ...


class Hidden(Protocol):
    def get_secret_value(self) -> str: ...


def kept_keys(settings: KeySettings) -> list[bytes]:
    """The newest first; none: secrets are not kept. Raises `BadKey`, also if both settings are there."""
    if settings.secrets_key is not None:
        if settings.secrets_key_file is not None:
            raise BadKey("PENSTOCK_SECRETS_KEY and PENSTOCK_SECRETS_KEY_FILE are both set: keep one of them")
        return read_keys(settings.secrets_key.get_secret_value())
    if settings.secrets_key_file is None:
        return []
    try:
        text = settings.secrets_key_file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise BadKey(f"PENSTOCK_SECRETS_KEY_FILE={settings.secrets_key_file} cannot be read: {why}") from None
    try:
        return read_keys(text)
    except BadKey as error:
        raise BadKey(f"PENSTOCK_SECRETS_KEY_FILE={settings.secrets_key_file}: {error}") from None


class AesGcmCipher:
    def __init__(self, keys: Sequence[bytes]) -> None:
        """The first key encrypts, each of them decrypts."""
        self._keys = {_key_id(key): key for key in keys}
        self.key_id = next(iter(self._keys))

    @cached_property
    def _ciphers(self) -> dict[str, AESGCM]:
        # Eight megabytes and 50 ms, for those alone that have secrets, and not for all that could.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return {key_id: AESGCM(key) for key_id, key in self._keys.items()}

    def encrypt(self, name: str, value: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[self.key_id].encrypt(nonce, value.encode(), name.encode())

    def decrypt(self, name: str, key_id: str, content: bytes) -> str:
        from cryptography.exceptions import InvalidTag

        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CannotDecrypt(f"the key {key_id} that encrypted it is not among the coordinator's")
        try:
            return cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], name.encode()).decode()
        except (InvalidTag, ValueError):
            raise CannotDecrypt("what the database has of it is not what was stored") from None


def _key_id(key: bytes) -> str:
    """Says which key it was, and nothing of it."""
    return hashlib.sha256(b"penstock secrets key" + key).hexdigest()[:12]
