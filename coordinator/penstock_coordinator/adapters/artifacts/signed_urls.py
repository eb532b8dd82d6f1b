"""URLs of the local store: each is good for one method on one thing, until an instant, and proves that we made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from penstock_coordinator.ports.artifacts import Digest, SignedUrl, hex_of, is_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "/artifacts"
VALID_SECONDS = 15 * 60


class UrlSigner(Protocol):
    """Signatures for URLs alone, each with the number of its key."""

    def sign(self, content: bytes) -> tuple[int, str]: ...

    async def verify(self, number: int, content: bytes, signature: str) -> bool:
        """Raises `Unavailable`."""


class BadUrl(Exception):
    """The text says what is wrong with it, and what to do; nothing of the signature."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one URL allows."""

    method: str
    digest: Digest
    upload_id: str = ""
    part: int = 0
    size: int = 0
    """Of the part."""

    def content(self, expires: int) -> bytes:
        fields = (self.method, self.digest, self.upload_id, str(self.part), str(self.size), str(expires))
        return "\n".join(fields).encode()

    @property
    def path(self) -> str:
        whole = f"{PREFIX}/{hex_of(self.digest)}"
        return f"{whole}/{self.upload_id}/{self.part}" if self.upload_id else whole


class UrlBook:
    """Makes URLs and checks them."""

    def __init__(self, signer: UrlSigner, base: Callable[[], str], now: Callable[[], int]) -> None:
        """`base`: the URL that others reach this coordinator's HTTP port with. `now`: seconds since 1970."""
        self._signer = signer
        self._base = base
        self._now = now

    def make(self, grant: Grant, valid_seconds: int = VALID_SECONDS) -> SignedUrl:
        expires = self._now() + valid_seconds
        key, signature = self._signer.sign(grant.content(expires))
        query: dict[str, str | int] = {"expires": expires, "key": key, "signature": signature}
        if grant.upload_id:
            query["size"] = grant.size
        return SignedUrl(f"{self._base()}{grant.path}?{urlencode(query)}")

    async def check(self, method: str, match: Mapping[str, str], query: Mapping[str, str]) -> Grant:
        """What the URL with these parts allows. Raises `BadUrl`, `Unavailable`."""
        digest = "sha256:" + match.get("hex", "")
        expires, key, part, size = (
            _number(text)
            for text in (query.get("expires"), query.get("key"), match.get("part", "0"), query.get("size", "0"))
        )
        if not is_digest(digest) or expires is None or key is None or part is None or size is None:
            raise BadUrl("this is no URL that a coordinator signed: ask for one")
        grant = Grant(method, digest, match.get("upload", ""), part, size)
        if not await self._signer.verify(key, grant.content(expires), query.get("signature", "")):
            raise BadUrl(
                "the signature is not that of this URL and method, or its key has expired: ask for another URL"
            )
        if expires < self._now():
            raise BadUrl("the URL has expired: ask for another one")
        return grant


def _number(text: str | None) -> int | None:
    """Digits and nothing else: what is read in two ways could be signed in one and used in the other."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 18 or (text[0] == "0" and text != "0"):
        return None
    return int(text)
