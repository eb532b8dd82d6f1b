"""Opens the store that the settings name."""

from __future__ import annotations

import ipaddress
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from penstock_coordinator.adapters.artifacts.guarded import GuardedArtifactStore
from penstock_coordinator.adapters.artifacts.local import LocalArtifactStore
from penstock_coordinator.adapters.artifacts.local_http import LocalArtifactRoutes
from penstock_coordinator.adapters.artifacts.signed_urls import UrlBook, UrlSigner
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiohttp.web import RouteDef

    from penstock_coordinator.ports import ArtifactStore


class CannotOpen(Exception):
    """The text names the setting and the remedy."""


@dataclass(slots=True)
class _Edge:
    """What URLs need and is known later than the store: who signs them, and where they lead."""

    base: str = ""
    signer: UrlSigner | None = field(default=None)

    def sign(self, content: bytes) -> tuple[int, str]:
        if self.signer is None:
            raise Unavailable("the coordinator is starting")
        return self.signer.sign(content)

    async def verify(self, number: int, content: bytes, signature: str) -> bool:
        if self.signer is None:
            raise Unavailable("the coordinator is starting")
        return await self.signer.verify(number, content, signature)


@dataclass(frozen=True, slots=True)
class OpenedStore:
    store: ArtifactStore
    routes: Sequence[RouteDef] = ()
    """For the HTTP port."""
    _edge: _Edge = field(default_factory=_Edge)

    def sign_with(self, signer: UrlSigner) -> None:
        """From now on there are URLs, if the store is a local one."""
        self._edge.signer = signer

    def reached_at(self, given: str, listening: str) -> None:
        """URLs lead there: to the URL that was given, or where the HTTP port listens."""
        self._edge.base = given or f"http://{reachable(listening)}"


def local_folder(url: str, data_dir: Path) -> Path | None:
    """Of a store on a disk of the coordinator's own; None: it is elsewhere."""
    if urlsplit(url).scheme == "s3":
        return None
    return type(data_dir)(unquote(urlsplit(url).path)) if url else data_dir / "artifacts"


async def open_store(url: str, data_dir: Path, part_bytes: int) -> OpenedStore:
    """Raises `CannotOpen`."""
    if urlsplit(url).scheme == "s3":
        # Some 30 MB of modules, that only those load who need them.
        from penstock_coordinator.adapters.artifacts.s3 import BadBucketUrl, open_s3_store

        try:
            return OpenedStore(GuardedArtifactStore(await open_s3_store(url, part_bytes)))
        except BadBucketUrl as error:
            raise CannotOpen(f"PENSTOCK_ARTIFACTS_URL: {error}") from None
    folder = local_folder(url, data_dir)
    assert folder is not None
    edge = _Edge()
    urls = UrlBook(edge, lambda: edge.base, lambda: int(time.time()))
    try:
        local = LocalArtifactStore(folder, urls, part_bytes)
    except OSError as error:
        raise CannotOpen(
            f"cannot keep artifacts in {folder} ({error.strerror}): mend it, or set PENSTOCK_ARTIFACTS_URL to another"
            " place"
        ) from None
    return OpenedStore(GuardedArtifactStore(local), LocalArtifactRoutes(local, urls).routes(), edge)


def reachable(listening: str) -> str:
    """An address for others: of a port that listens on all addresses this machine's name."""
    host, _, port = listening.rpartition(":")
    try:
        everywhere = ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        everywhere = False
    return f"{socket.getfqdn()}:{port}" if everywhere else listening
