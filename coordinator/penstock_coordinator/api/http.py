"""The HTTP side: whether the process lives, and whether it can serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from penstock_coordinator.api.health import Readiness

READINESS: web.AppKey[Readiness] = web.AppKey("readiness")
SHUTDOWN_SECONDS = 1.0


def http_application(readiness: Readiness) -> web.Application:
    application = web.Application()
    application[READINESS] = readiness
    application.router.add_get("/healthz", live)
    application.router.add_get("/readyz", ready)
    return application


async def live(_request: web.Request) -> web.Response:
    """200 as long as the process answers at all: whoever restarts it asks here."""
    return web.json_response({"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """200, or 503 with what is in the way: whoever sends it work asks here."""
    readiness = request.app[READINESS]
    if readiness.ready:
        return web.json_response({"status": "ready"})
    return web.json_response({"status": "not ready", "reasons": readiness.reasons}, status=503)
