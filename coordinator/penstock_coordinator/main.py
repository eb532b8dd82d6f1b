"""One coordinator process, put together. The only place that names concrete adapters.

python -m penstock_coordinator [server]     run it until SIGTERM or SIGINT
python -m penstock_coordinator migrate      bring the database's schema up to date
python -m penstock_coordinator config       show every setting with its source
python -m penstock_coordinator rotate-signing-key   sign with a new key from now on
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import gc
import json
import os
import signal
import sys
import uuid
from typing import IO, TYPE_CHECKING, Any

import asyncpg
import structlog
import uvloop

from penstock_coordinator.adapters.artifacts.opening import CannotOpen, OpenedStore, open_store
from penstock_coordinator.adapters.postgres.schema import CannotMigrate, SchemaOutdated, migrate
from penstock_coordinator.adapters.postgres.stores import PostgresStores, open_stores
from penstock_coordinator.adapters.secret_cipher import AesGcmCipher, BadKey
from penstock_coordinator.adapters.system import SystemClock, SystemIds, memory_there_is, resident_bytes
from penstock_coordinator.api.bundle_archive import ArchiveLimits
from penstock_coordinator.api.encoding.costs import Prices
from penstock_coordinator.api.health import RECOVERY, Readiness
from penstock_coordinator.api.server import Backend, CannotListen, CoordinatorServer, EdgeOptions, build_server
from penstock_coordinator.core.dispatch.fairness import Fairness
from penstock_coordinator.core.plan.limits import LOWERABLE, RAISABLE, RUN_SETTINGS, Limits, RunLimits, setting_of
from penstock_coordinator.logs import configure_logging
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.admission import Bounds
from penstock_coordinator.runtime.caching import CacheTiming
from penstock_coordinator.runtime.credentials import Signer
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.housekeeping import Housekeeping
from penstock_coordinator.runtime.janitor import Janitor
from penstock_coordinator.runtime.log_hub import LogHub
from penstock_coordinator.runtime.log_packer import LogPacker, PackPace
from penstock_coordinator.runtime.retention import Pace, Retention
from penstock_coordinator.runtime.strain import StrainGauge
from penstock_coordinator.runtime.supervisor import Supervisor, Timing
from penstock_coordinator.settings import (
    Settings,
    SettingsError,
    add_flags,
    flags_of,
    load_settings,
    microseconds,
    read_span,
    shown_settings,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from pathlib import Path

log = structlog.get_logger(__name__)

LOG_PATIENCE = 5.0
"""Seconds that a stop gives buffered log lines to become durable."""
COLLECT_AFTER = 50_000
"""Allocations between looks for garbage among the youngest objects: what a turn makes goes by reference count, and
looking through what lives long costs latency for nothing."""
KEY_OVERLAP = "30d"
M_ARENA_MAX = -8
"""Of malloc.h."""


class CannotStart(Exception):
    """The text says what is missing and what to do."""


class Coordinator:
    """One incarnation of a coordinator: from its epoch to its last commit."""

    def __init__(
        self,
        settings: Settings,
        stores: PostgresStores,
        artifacts: OpenedStore,
        readiness: Readiness,
        name: str,
        epoch: int,
    ) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._stores = stores
        self._readiness = readiness
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        clock = SystemClock()
        self.supervisor = Supervisor(
            stores, clock, SystemIds(), name, epoch, settings.lanes, timing(settings), self._fail, fairness(settings)
        )
        self._hub = LogHub(stores.logs, settings.log_buffer_size, settings.max_attempt_log_size)
        self._packer = LogPacker(
            stores.log_packs, stores.objects, clock, SystemIds(), pack_pace(settings), self._hub.hold
        )
        self._hub.on_written = self._packer.wrote
        self._housekeeping = Housekeeping(self.supervisor, stores.partitions.run_once)
        self._janitor = Janitor(self.supervisor, retention(settings), pace(settings))
        self._gauge = StrainGauge(self.supervisor, resident_bytes, _trim_memory)
        engine = Engine(self.supervisor)
        self._bulk = engine.bulk
        artifacts.sign_with(Signer(self.supervisor.keyring, "artifact url"))
        backend = Backend(
            stores,
            engine,
            self.supervisor,
            self._hub,
            clock,
            readiness,
            self._janitor,
            cipher(settings),
            artifacts.routes,
        )
        self.server: CoordinatorServer = build_server(backend, edge_options(settings))

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_result(error)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, or another incarnation takes over: then raises what tells so."""
        _let_memory_grow()
        live = await self.supervisor.recover()
        log.info("recovered", live_runs=live, epoch=self.supervisor.epoch)
        self._hub.start()
        await self.server.start()
        self._artifacts.reached_at(self._settings.http_url, self.server.http_address)
        self._readiness.clear(RECOVERY)
        _settle_memory()
        keeping = asyncio.create_task(self._housekeeping.run(), name="housekeeping")
        bulk = asyncio.create_task(self._bulk.run(), name="bulk-jobs")
        janitor = asyncio.create_task(self._janitor.run(), name="janitor")
        gauge = asyncio.create_task(self._gauge.run(), name="strain")
        packer = asyncio.create_task(self._packer.run(), name="log packer")
        stopping = asyncio.create_task(stop.wait())
        ends: set[asyncio.Future[Any]] = {self._failure, stopping, keeping, bulk, janitor, gauge, packer}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in (keeping, bulk, janitor, gauge, packer, stopping):
            task.cancel()
        await self.server.stop(self.supervisor.stop, self._close_logs)
        if self._failure.done():
            raise self._failure.result()
        for task in (keeping, bulk, janitor, gauge, packer):
            if task.done() and not task.cancelled():
                task.result()  # it runs for ever, or there was a fault: no reason to end as if all were well

    async def _close_logs(self) -> None:
        await self._hub.close(LOG_PATIENCE)


def timing(settings: Settings) -> Timing:
    return Timing(
        heartbeat_interval=microseconds(settings.heartbeat_interval),
        lease_ttl=microseconds(settings.lease_ttl),
        expiry_margin=microseconds(settings.expiry_margin),
        accept_timeout=microseconds(settings.accept_timeout),
        result_resend_interval=microseconds(settings.result_resend_interval),
        stop_grace=microseconds(settings.stop_grace),
        max_output_bytes=settings.max_output_size,
        inline_output_bytes=min(settings.inline_output_size, settings.max_output_size),
        output_cache_bytes=settings.output_cache_size,
        max_live_runs=settings.max_live_runs,
        admission=bounds(settings),
        commit_patience=microseconds(settings.commit_patience),
        max_watchers=settings.max_watchers,
        max_watchers_of_run=settings.max_watchers_of_run,
        run_limits=run_limits_of(settings),
        cache=CacheTiming(
            reservation_ttl=microseconds(settings.cache_reservation_ttl),
            patience=microseconds(settings.cache_patience),
        ),
    )


def bounds(settings: Settings) -> Bounds:
    return Bounds(
        backlog=settings.max_backlog,
        lag=microseconds(settings.max_loop_lag),
        commit=microseconds(settings.max_commit_lag),
        memory=settings.max_memory or memory_there_is() * 3 // 4,
    )


def retention(settings: Settings) -> Retention:
    return Retention(
        runs=microseconds(settings.run_retention),
        runs_of_pipeline=settings.runs_kept_per_pipeline,
        logs=microseconds(settings.log_retention),
        requests=microseconds(settings.request_retention),
        bulk_jobs=microseconds(settings.bulk_job_retention),
        closed_letters=microseconds(settings.closed_letter_retention),
        cache_entries=microseconds(settings.cache_retention),
        cache_entries_kept=settings.cache_entries_kept,
        deleted_pipelines=microseconds(settings.deleted_pipeline_retention),
        unused_bundles=microseconds(settings.unused_bundle_retention),
        notes=microseconds(settings.removed_run_retention),
        artifacts=microseconds(settings.artifact_retention),
        artifacts_of=tuple((name, microseconds(span)) for name, span in settings.artifact_retention_of.items()),
        artifacts_kept=settings.artifacts_kept,
        unpublished=microseconds(settings.artifact_grace),
    )


def pace(settings: Settings) -> Pace:
    return Pace(
        interval=microseconds(settings.janitor_interval),
        batch=settings.janitor_batch,
        pause=microseconds(settings.janitor_pause),
    )


def pack_pace(settings: Settings) -> PackPace:
    return PackPace(after=microseconds(settings.log_pack_after), backlog_bytes=settings.log_backlog_size)


def fairness(settings: Settings) -> Fairness:
    return Fairness(
        aging=microseconds(settings.priority_aging),
        label=settings.fairness_label,
        weights=settings.fairness_weights,
    )


def cipher(settings: Settings) -> AesGcmCipher | None:
    """None: secrets are not kept here. Raises `CannotStart`."""
    try:
        keys = settings.secrets_keys()
    except BadKey as error:
        raise CannotStart(str(error)) from None
    return AesGcmCipher(keys) if keys else None


def edge_options(settings: Settings) -> EdgeOptions:
    limits = ArchiveLimits(
        packed_bytes=settings.max_bundle_size,
        unpacked_bytes=settings.max_bundle_unpacked_size,
        files=settings.max_bundle_files,
    )
    keepalive_ms = microseconds(settings.keepalive_interval) // 1_000
    return EdgeOptions(
        settings.listen,
        settings.http_listen,
        settings.reflection,
        limits,
        limits_of(settings),
        keepalive_ms,
        settings.max_artifact_size,
        Prices(settings.price_slot_second, settings.price_cpu_second, settings.price_gb_second, settings.currency),
    )


def limits_of(settings: Settings) -> Limits:
    given: dict[str, int] = {limit: getattr(settings, setting_of(limit)) for limit in (*RAISABLE, *LOWERABLE)}
    return Limits(**given)


def run_limits_of(settings: Settings) -> RunLimits:
    given: dict[str, int] = {limit: getattr(settings, name) for limit, name in RUN_SETTINGS.items()}
    return RunLimits(**given)


@contextlib.contextmanager
def identity(data_dir: Path) -> Iterator[str]:
    """This coordinator's name, the same at every start on this data folder: a restart takes its own runs at once.

    The folder is this process's alone. Two of the same name would fence each other off for ever. Raises `CannotStart`.
    """
    lock, name = _claim(data_dir)
    with lock:
        yield name


def _claim(data_dir: Path) -> tuple[IO[str], str]:
    lock: IO[str] | None = None
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock, _name(data_dir / "coordinator-id")
    except OSError as error:
        if lock is not None:
            lock.close()
        if isinstance(error, BlockingIOError):
            problem = f"another coordinator runs on {data_dir}: stop it"
        else:
            problem = f"cannot keep this coordinator's identity in {data_dir} ({os.strerror(error.errno or 0)})"
        raise CannotStart(f"{problem}, or set PENSTOCK_DATA_DIR to a folder of this one's own") from None


def _name(path: Path) -> str:
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.write_text(f"coordinator-{uuid.uuid4().hex[:12]}\n")
        fresh.replace(path)
    return path.read_text().strip()


def _let_memory_grow() -> None:
    """What a recovery makes stays: the collector would look through all of it again and again for nothing."""
    gc.collect()
    gc.disable()


def _settle_memory() -> None:
    """What is there after the start stays: the collector need not look at it again."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)
    gc.enable()
    _trim_memory()  # What the start needed for a while: 4 MB.


def _trim_memory() -> None:
    """What is free goes back to the system. Other allocators do without."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _share_one_arena() -> None:
    """Threads get no arenas of malloc of their own: gRPC's fill them with messages that the loop frees, and of large
    ones hundreds of megabytes stay behind. Counts for threads that begin later; other allocators do without."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


# --- commands ---------------------------------------------------------------------------------------------------------


async def serve(settings: Settings, *, migrates: bool) -> None:
    """Raises `CannotStart`, and what ended the coordinator if it was not a signal."""
    _share_one_arena()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if migrates:
        await update_schema(settings)
    with identity(settings.data_dir) as name:
        await _serve_as(name, settings, stop)


async def _serve_as(name: str, settings: Settings, stop: asyncio.Event) -> None:
    readiness = Readiness()
    artifacts = await _open_artifacts(settings)
    stores = await _open(settings, name, readiness, artifacts)
    try:
        epoch = await stores.incarnations.incarnate(name, settings.lanes)
        await Coordinator(settings, stores, artifacts, readiness, name, epoch).run(stop)
    except CannotListen as error:
        raise CannotStart(str(error)) from None
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            await stores.aclose()


async def _open_artifacts(settings: Settings) -> OpenedStore:
    try:
        return await open_store(settings.artifacts_url, settings.data_dir, settings.artifact_part_size)
    except CannotOpen as error:
        raise CannotStart(str(error)) from None


async def _open(
    settings: Settings, name: str, readiness: Readiness, artifacts: OpenedStore | None = None
) -> PostgresStores:
    try:
        return await open_stores(
            settings.database_url.get_secret_value(),
            coordinator_id=name,
            lanes=settings.lanes,
            pool_size=settings.database_connections,
            on_availability=readiness.journal_available,
            objects=None if artifacts is None else artifacts.store,
        )
    except SchemaOutdated as error:
        raise CannotStart(str(error)) from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _no_database(error) from None


async def update_schema(settings: Settings) -> None:
    """Raises `CannotStart`."""
    try:
        await migrate(settings.database_url.get_secret_value())
    except CannotMigrate as error:
        raise CannotStart(f"the database cannot be brought to the schema of this release: {error}") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _no_database(error) from None


async def rotate_signing_key(settings: Settings, others_live: int) -> None:
    """Coordinators that run read the new key within a minute, or when something comes that it signed. Raises
    `CannotStart`."""
    stores = await _open(settings, "rotate-signing-key", Readiness())
    try:
        now = SystemClock().now()
        key = await stores.signing_keys.rotate(SystemIds().key(), now, now + others_live)
    except Unavailable as error:
        raise CannotStart(f"the database is away, and no key was made: {error}") from None
    finally:
        await stores.aclose()
    log.info("signing_key_rotated", key=key.number)


def _no_database(error: Exception) -> CannotStart:
    return CannotStart(
        f"cannot use the database that PENSTOCK_DATABASE_URL names ({type(error).__name__}: {error}). Check its "
        "address, user, password and database, and that it is running"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock server", description="Run a coordinator, or look after its database and settings."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    server = commands.add_parser("server", help="run the coordinator (the default)")
    server.add_argument(
        "--no-migrate",
        dest="migrates",
        action="store_false",
        help="do not bring the schema up to date first: refuse to start if it is not",
    )
    add_flags(server)
    add_flags(commands.add_parser("migrate", help="bring the database's schema up to date"))
    rotate = commands.add_parser("rotate-signing-key", help="sign credentials and addresses with a new key from now on")
    rotate.add_argument(
        "--expire-after",
        default=KEY_OVERLAP,
        metavar="SPAN",
        help="what the former keys signed is accepted for so long, longer than any attempt runs"
        f" (default {KEY_OVERLAP}; 0s: a key was stolen)",
    )
    add_flags(rotate)
    config = commands.add_parser("config", help="show every setting with its source")
    config.add_argument("--json", action="store_true", help="as a JSON object per line")
    add_flags(config)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 if it ended by a fault, 2 if it cannot start."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "server")
    parsed = _parser().parse_args(given)
    flags = flags_of(parsed)
    try:
        settings = load_settings(flags)
        if parsed.command == "config":
            _show(settings, flags, as_json=parsed.json)
            return 0
        configure_logging(settings.log_level, settings.log_format)
        uvloop.run(_work(parsed, settings))
    except (SettingsError, CannotStart) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except Exception as error:
        log.critical("stopped_by_a_fault", exc_info=error)
        return 1
    return 0


def _work(parsed: argparse.Namespace, settings: Settings) -> Coroutine[Any, Any, None]:
    match parsed.command:
        case "migrate":
            return update_schema(settings)
        case "rotate-signing-key":
            return rotate_signing_key(settings, microseconds(read_span(parsed.expire_after)))
    return serve(settings, migrates=parsed.migrates)


def _show(settings: Settings, flags: dict[str, object], *, as_json: bool) -> None:
    for setting in shown_settings(settings, flags):
        if as_json:
            shown = {"name": setting.name, "variable": setting.variable, "value": setting.value}
            line = json.dumps({**shown, "source": setting.source, "description": setting.description})
        else:
            line = f"{setting.variable}={setting.value}  ({setting.source}; {setting.description})"
        sys.stdout.write(line + "\n")
