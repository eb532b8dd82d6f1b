"""Request ids: the same id with the same content is the same call."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from penstock_coordinator.api.errors import invalid, request_id_reused
from penstock_coordinator.ports import Repeated, RequestKey

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from penstock_coordinator.ports import RunIndex

MAX_LENGTH = 128


class Mutating(Protocol):
    request_id: str


def check_request_id(request_id: str, field: str = "request_id") -> None:
    if len(request_id) > MAX_LENGTH or not (request_id.isascii() and (request_id.isprintable() or not request_id)):
        raise invalid(field, f"must be at most {MAX_LENGTH} printable ASCII characters; a random UUID is a good choice")


def request_key(method: str, request: Message, field: str = "request_id") -> RequestKey | None:
    """The key of a request that carries an id; None without one. `field` names it in errors.

    The digest is of the deterministic serialisation without the id.
    """
    request_id: str = request.request_id  # type: ignore[attr-defined]  # every mutating request has it
    return key_of(method, request_id, content_of(request), field) if request_id else None


def content_of(request: Message) -> bytes:
    """The deterministic serialisation without the id."""
    request_id: str = request.request_id  # type: ignore[attr-defined]  # every mutating request has it
    request.ClearField("request_id")
    try:
        return request.SerializeToString(deterministic=True)
    finally:
        request.request_id = request_id  # type: ignore[attr-defined]


def key_of(method: str, request_id: str, content: bytes, field: str = "request_id") -> RequestKey:
    check_request_id(request_id, field)
    return RequestKey(scope="", method=method, id=request_id, digest=hashlib.sha256(content).digest())


async def first_answer(runs: RunIndex, key: RequestKey | None, field: str = "request_id") -> bytes | None:
    """What the same call was answered before; None if it is new. Raises if the id came with other content."""
    if key is None:
        return None
    row = await runs.find_request(key.scope, key.method, key.id)
    if row is None:
        return None
    return same_answer(Repeated(row.key.digest == key.digest, row.answer), field)


def same_answer(repeated: Repeated, field: str = "request_id") -> bytes:
    if not repeated.same:
        raise request_id_reused(field)
    return repeated.answer
