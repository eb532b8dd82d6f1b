"""What a process stands on: the database with its schema, the coordinators there, and the artifact store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg

from penstock_coordinator.adapters.artifacts.opening import CannotOpen, open_store
from penstock_coordinator.adapters.postgres.connections import ANSWER_SECONDS
from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
from penstock_coordinator.adapters.postgres.schema import CannotMigrate, SchemaOutdated, migrate
from penstock_coordinator.adapters.postgres.stores import open_stores
from penstock_coordinator.identity import CannotStart

if TYPE_CHECKING:
    from penstock_coordinator.adapters.artifacts.opening import OpenedStore
    from penstock_coordinator.adapters.postgres.stores import PostgresStores
    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.api.metrics.place import Watched
    from penstock_coordinator.settings import Settings


async def open_artifacts(settings: Settings) -> OpenedStore:
    """Raises `CannotStart`."""
    try:
        return await open_store(settings.artifacts_url, settings.data_dir, settings.artifact_part_size)
    except CannotOpen as error:
        raise CannotStart(str(error)) from None


async def open_database(
    settings: Settings,
    name: str,
    readiness: Readiness,
    artifacts: OpenedStore | None = None,
    watched: Watched | None = None,
    *,
    newer: bool = False,
) -> PostgresStores:
    """`newer`: also if a later release has brought the schema further. Raises `CannotStart`."""
    try:
        return await open_stores(
            settings.database_url.get_secret_value(),
            coordinator_id=name,
            lanes=settings.lanes,
            pool_size=settings.database_connections,
            on_availability=readiness.journal_available,
            objects=None if artifacts is None else artifacts.store,
            counts=None if watched is None else watched.counts.commits,
            newer=newer,
        )
    except SchemaOutdated as error:
        raise CannotStart(str(error)) from None
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _no_database(error) from None


async def open_registry(settings: Settings, name: str) -> PostgresCoordinatorRegistry:
    """Raises what opening a database raises."""
    patience = min(settings.ownership_lease.total_seconds() / 4, ANSWER_SECONDS)
    return await PostgresCoordinatorRegistry.open(settings.database_url.get_secret_value(), name, patience)


async def update_schema(settings: Settings) -> None:
    """Raises `CannotStart`."""
    try:
        await migrate(settings.database_url.get_secret_value())
    except CannotMigrate as error:
        raise CannotStart(f"the database cannot be brought to the schema of this release: {error}") from None
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _no_database(error) from None


async def close_database(stores: PostgresStores) -> None:
    """What was opened beside it stays."""
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        await stores.aclose(objects=False)


def _no_database(error: Exception) -> CannotStart:
    # Whoever could not read the URL tells the part that he stumbled over, and that may be one of the password.
    unread = isinstance(error, ValueError) and not isinstance(error, asyncpg.InterfaceError)
    said = "its URL cannot be read" if unread else f"{type(error).__name__}: {error}"
    return CannotStart(
        f"cannot use the database that PENSTOCK_DATABASE_URL names ({said}). Check its "
        "address, user, password and database, and that it is running"
    )
