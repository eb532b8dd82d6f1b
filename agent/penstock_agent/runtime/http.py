"""The agent's own HTTP port, where one is asked for: whether it lives, whether it works, and its metrics."""

from __future__ import annotations

import asyncio
import ipaddress
from importlib import import_module
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from penstock_agent.runtime.observed import Observed

from penstock_agent.own_log import OwnLog

log = OwnLog(__name__)

METRICS = "penstock_agent.runtime.metrics"
SHUTDOWN_SECONDS = 1.0


class CannotListen(OSError):
    """The text names the setting and the remedy."""


class AgentPort:
    def __init__(self, listen: str, observed: Observed) -> None:
        self.address = listen
        """host:port; with the real port once it is open."""
        self._observed = observed
        application = web.Application()
        application.router.add_get("/healthz", self._live)
        application.router.add_get("/readyz", self._ready)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)

    async def open(self) -> None:
        """Raises `CannotListen`."""
        host, _, port = self.address.rpartition(":")
        host = host.strip("[]")
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, int(port)).start()
        except OSError as error:
            await self._runner.cleanup()
            raise CannotListen(
                f"cannot listen on {self.address} ({error.strerror or error}): set PENSTOCK_AGENT_HTTP_LISTEN to"
                " another host:port, or to nothing, or stop what uses it"
            ) from None
        self.address = f"{host}:{self._runner.addresses[0][1]}"
        log.info("listening", http=self.address)
        if not _is_loopback(host):
            log.warning("listening_beyond_this_machine", reason="there is no authentication: keep the network private")

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _live(self, _request: web.Request) -> web.Response:
        """200 as long as the process answers at all."""
        return web.json_response({"status": "live"})

    async def _ready(self, _request: web.Request) -> web.Response:
        """200, or 503 with why it takes no work."""
        reason = self._observed.why_not_ready
        told = {"status": "not ready", "reason": reason} if reason else {"status": "ready"}
        return web.json_response(told, status=503 if reason else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        # Loaded by the first scrape, beside the event loop: an agent that nobody scrapes needs no room for it.
        metrics = await asyncio.to_thread(import_module, METRICS)
        body, content_type = metrics.page(self._observed.state(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
