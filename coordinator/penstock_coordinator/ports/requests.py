"""Mutating calls that are known again when they are repeated."""

from __future__ import annotations

import msgspec


class RequestKey(msgspec.Struct, frozen=True, gc=False):
    """Names a mutating call, so that its repetition answers the same."""

    scope: str
    """Who asks; "" until there are tenants."""
    method: str
    id: str
    digest: bytes
    """Of the call's content."""


class RequestRow(msgspec.Struct, frozen=True, gc=False):
    key: RequestKey
    answer: bytes


class Repeated(msgspec.Struct, frozen=True, gc=False):
    """The record's request was answered before: nothing of the record is stored. `same` tells whether the content was
    the same; `answer` is the first call's."""

    same: bool
    answer: bytes
