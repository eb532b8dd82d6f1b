"""Mutating calls that are known again when they are repeated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Names a mutating call, so that its repetition answers the same."""

    scope: str
    """Who asks; "" until there are tenants."""
    method: str
    id: str
    digest: bytes
    """Of the call's content."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    key: RequestKey
    answer: bytes


@dataclass(frozen=True, slots=True)
class Repeated:
    """The record's request was answered before: nothing of the record is stored. `same` tells whether the content was
    the same; `answer` is the first call's."""

    same: bool
    answer: bytes
