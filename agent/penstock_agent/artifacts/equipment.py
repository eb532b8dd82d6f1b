"""What an agent needs to bring artifacts, put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import aiohttp

from penstock_agent.artifacts.cache import ArtifactCache
from penstock_agent.artifacts.downloads import Downloads
from penstock_agent.artifacts.files import FileThreads
from penstock_agent.artifacts.porter import Porter
from penstock_agent.artifacts.service import Access, Service
from penstock_agent.artifacts.uploads import Uploads
from penstock_agent.core.inputs import Input
from penstock_agent.core.leases import Handle
from penstock_agent.runtime import host
from penstock_agent.runtime.data_folder import DataFolder
from penstock_agent.runtime.stubs import LeaseStubs
from penstock_agent.settings import AgentSettings

CONNECT_TIMEOUT = 10.0
SILENCE_TIMEOUT = 60.0
"""Of a connection over which nothing comes or goes."""
READ_BUFFER = 1 << 20


class Artifacts:
    """Belongs to the running event loop."""

    def __init__(
        self,
        settings: AgentSettings,
        folder: DataFolder,
        outgoing: Path,
        access_of: Callable[[Handle], Access | None],
        post: Callable[[Input], None],
        stubs: LeaseStubs,
    ) -> None:
        service = Service(stubs)
        self._threads = FileThreads()
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE_TIMEOUT),
            connector=aiohttp.TCPConnector(limit=0),
            read_bufsize=READ_BUFFER,
            auto_decompress=False,
        )
        self.cache = ArtifactCache(
            folder.artifacts,
            settings.artifact_cache_bytes,
            settings.disk_floor_bytes,
            lambda: host.condition(folder.path).disk_free_bytes,
            host.boot_id(),
            settings.artifact_cache_count,
        )
        patience = settings.artifact_patience
        self.uploads = Uploads(service, self._http, self._threads, patience)
        self.downloads = Downloads(service, self._http, self._threads, self.cache, patience)
        self.porter = Porter(
            self.uploads,
            self.downloads,
            self._threads,
            outgoing=outgoing,
            incoming=folder.incoming,
            access_of=access_of,
            post=post,
        )

    async def close(self) -> None:
        """Transfers are cut off."""
        await self.porter.close()
        await self._http.close()
        self._threads.close()
