"""Where the bytes of artifacts are kept: by the digest of what they are, and moved by whoever has a signed URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from penstock_coordinator.ports.dependencies import Dependency

Digest: TypeAlias = str
"""`sha256:` and 64 hex digits in lower case."""

MOST_PARTS = 10_000
"""Of one upload: more is no S3."""
PARTS_PAGE = 1_000
"""Signed URLs in one answer."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def hex_of(digest: Digest) -> str:
    """Raises `ValueError` where it is none: it becomes part of a path."""
    if not is_digest(digest):
        raise ValueError("no digest")
    return digest[7:]


def checked_name(name: str) -> str:
    """Of what the coordinator keeps for itself. Raises `ValueError`: it becomes part of a path."""
    if _NAME.fullmatch(name) is None or len(name) > 500:
        raise ValueError("no name of a blob")
    return name


class UnknownUpload(Exception):
    """There is no such upload, or it is of another digest: begin again."""


class PartsMissing(Exception):
    """The upload is not whole yet."""


class AlreadyThere(Exception):
    """Somebody else brought the bytes. What this upload brought was not looked at, and is gone."""


class WrongDigest(Exception):
    """The bytes that came are not those of the digest. They are gone."""


class TooLarge(Exception):
    """More bytes than the caller wants."""


Headers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """For one method, for some minutes, with these headers."""

    url: str
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class PartUrl:
    number: int
    """Counted from 1."""
    offset: int
    size: int
    url: SignedUrl


@dataclass(frozen=True, slots=True)
class Upload:
    upload_id: str
    part_size: int
    """Of each part but the last."""
    missing: tuple[PartUrl, ...]
    """The first `PARTS_PAGE` of them."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    digest: Digest
    size: int
    modify_time: int
    """Microseconds since 1970, by the store's clock."""


class ArtifactStore(Protocol):
    """What is in it under a digest has that digest: nobody can put anything else there. All methods raise
    `Unavailable`; whatever is asked twice has the effect of once."""

    async def find(self, digest: Digest) -> StoredObject | None: ...

    async def begin(self, digest: Digest, size: int, media_type: str, upload_id: str = "") -> Upload:
        """With an upload id what is missing of it, if it is there still and of this digest and size; else another one
        begins. Parts are as large as it takes for at most `MOST_PARTS`. What is empty has one part."""

    async def complete(self, digest: Digest, upload_id: str, etag: str | None = None) -> int:
        """The bytes are durable and have the digest; their number. Raises `UnknownUpload`, `PartsMissing`,
        `WrongDigest`. Of an upload that was completed, or whose digest somebody else brought meanwhile, the same.

        With an ETag, that of the upload's first part, it is for those alone whose upload brought the bytes: raises
        `AlreadyThere` where the store cannot tell that it did. "" is no ETag."""

    async def abort(self, digest: Digest, upload_id: str) -> None:
        """Nothing is left of the upload. Of one that is not there, nothing happens."""

    async def sign_download(self, digest: Digest) -> SignedUrl:
        """For GET, also of ranges. Says nothing about whether it is there."""

    async def get(self, digest: Digest, limit: int) -> bytes | None:
        """The bytes; None: it is not there. Raises `TooLarge`."""

    async def read(self, digest: Digest, offset: int, size: int) -> bytes | None:
        """A range of the bytes, shorter at their end. None: it is not there."""

    async def put(self, content: bytes, media_type: str = "application/octet-stream") -> Digest:
        """Durable when it returns."""

    async def objects(self, after: Digest | None, limit: int) -> list[StoredObject]:
        """In the order of their digests, above `after`."""

    async def delete(self, digest: Digest) -> None: ...

    async def remove_uploads(self, before: int) -> int:
        """Those that were begun before the instant and never completed. How many."""

    # --- what the coordinator keeps for itself, under names that it chooses: parts of a path in lower case

    async def write_blob(self, name: str, content: bytes) -> None:
        """Durable when it returns; in place of what was there."""

    async def read_blob(self, name: str, limit: int) -> bytes | None:
        """As `get`."""

    async def delete_blob(self, name: str) -> None: ...

    # ---

    async def probe(self) -> None:
        """Returns if it answers, whatever it holds; as cheap as a question can be. What it was asked before, and has
        not answered, is not asked a second time."""

    def dependency(self) -> Dependency:
        """How it fares."""

    async def aclose(self) -> None: ...


def part_size_of(size: int, smallest: int) -> int:
    """The size of each part but the last, in whole MiB where it has to grow."""
    if size <= smallest * MOST_PARTS:
        return smallest
    mib = 1 << 20
    return -(-size // (MOST_PARTS * mib)) * mib


def parts_of(size: int, part_size: int) -> list[tuple[int, int, int]]:
    """(number, offset, size) of each."""
    if size == 0:
        return [(1, 0, 0)]
    offsets = range(0, size, part_size)
    return [(at + 1, offset, min(part_size, size - offset)) for at, offset in enumerate(offsets)]
