"""One coordinator process, put together: with `seat`, `incarnation`, `opening`, `configured`, `media` and `tracing` the
only place that names concrete adapters."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from penstock_coordinator.adapters.system import SystemClock, SystemIds
from penstock_coordinator.api.doorway import CannotListen
from penstock_coordinator.api.health import Readiness
from penstock_coordinator.api.metrics.place import Watched
from penstock_coordinator.configured import hidden
from penstock_coordinator.identity import CannotStart, identity
from penstock_coordinator.log_masking import hide, masked
from penstock_coordinator.logs import configure_logging
from penstock_coordinator.media import open_media
from penstock_coordinator.opening import open_artifacts, open_database, open_registry, update_schema
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.process_memory import share_one_arena
from penstock_coordinator.runtime.ownership import IdentityTaken
from penstock_coordinator.seat import Seat
from penstock_coordinator.tracing import open_tracing

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from penstock_coordinator.settings import Settings

log = structlog.get_logger(__name__)


async def serve(settings: Settings, *, migrates: bool, former: Sequence[str] = ()) -> None:
    """`former`: ids of coordinators of earlier releases whose runs are taken over. Raises `CannotStart`, and what ended
    the coordinator if it was not a signal."""
    share_one_arena()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if migrates:
        await update_schema(settings)
    with identity(settings.data_dir) as name:
        await _serve_as(name, settings, stop, former)


async def _serve_as(name: str, settings: Settings, stop: asyncio.Event, former: Sequence[str]) -> None:
    readiness = Readiness()
    tracing = open_tracing()
    artifacts = await open_artifacts(settings)
    watched = Watched()
    stores = await open_database(settings, name, readiness, artifacts, watched)
    registry = await open_registry(settings, name)
    media = await open_media(settings, name)
    seat = Seat(name, settings, readiness, artifacts, stores, registry, media, watched, tracing)
    try:
        await seat.run(stop, former)
    except CannotListen as error:
        raise CannotStart(str(error)) from None
    except IdentityTaken as error:
        raise CannotStart(str(error)) from None
    finally:
        await seat.aclose()
        await media.aclose()
        await registry.aclose()
        await artifacts.store.aclose()
        if tracing is not None:
            await tracing.calls.aclose()


async def rotate_signing_key(settings: Settings, others_live: int) -> None:
    """Coordinators that run read the new key within a minute, or when something comes that it signed. Raises
    `CannotStart`."""
    stores = await open_database(settings, "rotate-signing-key", Readiness())
    try:
        now = SystemClock().now()
        key = await stores.signing_keys.rotate(SystemIds().key(), now, now + others_live)
    except Unavailable as error:
        raise CannotStart(f"the database is away, and no key was made: {error}") from None
    finally:
        await stores.aclose()
    log.info("signing_key_rotated", key=key.number)


def run(settings: Settings, work: Coroutine[Any, Any, None]) -> int:
    """The exit code: 0, 1 if it ended by a fault, 2 if it cannot start."""
    hide(hidden(settings, os.environ))
    configure_logging(settings.log_level, settings.log_format)
    try:
        uvloop.run(work)
    except CannotStart as error:
        sys.stderr.write(f"error: {masked(str(error))}\n")
        return 2
    except Exception as error:
        log.critical("stopped_by_a_fault", exc_info=error)
        return 1
    return 0


def run_server(settings: Settings, *, migrates: bool, former: Sequence[str]) -> int:
    """As `run`, of the coordinator itself."""
    return run(settings, serve(settings, migrates=migrates, former=former))
