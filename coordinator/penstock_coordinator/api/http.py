"""The HTTP side: whether the process lives, whether it can serve, its metrics, and what the artifact store serves."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from penstock_coordinator.api.metrics.scraping import Scraping
from penstock_coordinator.runtime.load import load_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.api.metrics.place import Place
    from penstock_coordinator.runtime.ownership import OwnershipKeeper

READINESS: web.AppKey[Readiness] = web.AppKey("readiness")
PLACE: web.AppKey[Place] = web.AppKey("place")
METRICS: web.AppKey[Scraping] = web.AppKey("metrics")
SHUTDOWN_SECONDS = 1.0


class _NoRequests(logging.Filter):
    """Whoever connects and speaks no HTTP is answered, and is nothing to write about: the log is for what is wrong
    here, and would be theirs to fill."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def http_application(readiness: Readiness, place: Place, more: Sequence[web.RouteDef] = ()) -> web.Application:
    server_logger.addFilter(_NO_REQUESTS)
    application = web.Application()
    application[READINESS] = readiness
    application[PLACE] = place
    application.router.add_get("/healthz", live)
    application.router.add_get("/readyz", ready)
    application[METRICS] = Scraping(readiness, place)
    application.router.add_get("/metrics", metrics)
    application.add_routes(more)
    return application


_NO_REQUESTS = _NoRequests()


async def live(_request: web.Request) -> web.Response:
    """200 as long as the process answers at all: whoever restarts it asks here."""
    return web.json_response({"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """200, or 503 with what is in the way: whoever sends it work asks here. How it fares comes along."""
    readiness, place = request.app[READINESS], request.app[PLACE]
    supervisor = place.supervisor
    told: dict[str, object] = {"status": "ready" if readiness.ready else "not ready"}
    if not readiness.ready:
        told["reasons"] = readiness.reasons
    told["checks"] = readiness.checks()
    told["role"] = "follower" if supervisor is None else "member" if supervisor.whereabouts.head_epoch else "owner"
    if readiness.agents_go:
        told["agents"] = readiness.agents_go
    if supervisor is not None:
        told["load"] = asdict(load_of(supervisor))
        told["dependencies"] = [asdict(each) for each in supervisor.stores.dependencies()]
    if place.keeper is not None:
        told["ownership"] = _ownership(place.keeper)
    if place.hot is not None:
        told["hot_state"] = asdict(place.hot.view)
    return web.json_response(told, status=200 if readiness.ready else 503)


async def metrics(request: web.Request) -> web.Response:
    """What this process has counted and what it is at, in the text format of Prometheus, or in OpenMetrics if the
    caller takes that."""
    body, content_type = await request.app[METRICS].render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


def _ownership(keeper: OwnershipKeeper) -> dict[str, object]:
    """Of the lease: who has it, as far as this coordinator knows."""
    owner = keeper.owner()
    return {
        "coordinator": keeper.coordinator_id,
        "epoch": keeper.epoch,
        "holds_lease": bool(keeper.epoch) and keeper.may_act(),
        "owner": "" if owner is None else owner.coordinator_id,
        "owner_address": "" if owner is None else owner.address,
    }
