"""Pages of lists. A page token says where the next page begins; it is good for the list that it came from alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from penstock_coordinator.api.errors import CallError, invalid

if TYPE_CHECKING:
    from google.protobuf.message import Message

MAX_PAGE_SIZE = 1_000
DEFAULT_PAGE_SIZE = 50
_CHECK_BYTES = 8
_LONGEST_TOKEN = 1_000

Cursor = TypeVar("Cursor")

_encode = msgspec.msgpack.Encoder().encode


def page_size(asked: int, default: int = DEFAULT_PAGE_SIZE) -> int:
    if not 0 <= asked <= MAX_PAGE_SIZE:
        raise invalid("page_size", f"must be between 0 (for {default}) and {MAX_PAGE_SIZE:,}")
    return asked or default


class PageTokens(Generic[Cursor]):
    """The tokens of one list. The cursor is whatever the list goes on from; the token is checked for accidents and
    mix-ups, and is no secret."""

    def __init__(self, request: Message, cursor: type[Cursor]) -> None:
        """`request` is the list's own: all of it but the page belongs to what a token is bound to."""
        filters = type(request)()
        filters.CopyFrom(request)
        filters.ClearField("page_size")
        filters.ClearField("page_token")
        self._scope = type(request).__name__.encode() + b"\0" + filters.SerializeToString(deterministic=True)
        self._decode = msgspec.msgpack.Decoder(cursor).decode

    def write(self, cursor: Cursor) -> str:
        packed: bytes = _encode(cursor)
        return base64.urlsafe_b64encode(self._check(packed) + packed).rstrip(b"=").decode()

    def read(self, token: str) -> Cursor | None:
        """None without a token: the first page."""
        if not token:
            return None
        if len(token) > _LONGEST_TOKEN:
            raise _refused()
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _refused() from None
        check, packed = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if check != self._check(packed):
            raise _refused()
        try:
            return self._decode(packed)
        except msgspec.DecodeError:
            raise _refused() from None

    def _check(self, packed: bytes) -> bytes:
        return hashlib.blake2b(packed, key=hashlib.sha256(self._scope).digest(), digest_size=_CHECK_BYTES).digest()


def _refused() -> CallError:
    return invalid(
        "page_token",
        "is none that this list gave: pass next_page_token of the page before unchanged and with the same filters, or"
        " leave it out to begin again",
    )
