"""Opens everything that is kept in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.agent_registry import PostgresAgentRegistry
from penstock_coordinator.adapters.postgres.bulk_job_store import PostgresBulkJobStore
from penstock_coordinator.adapters.postgres.bundle_store import PostgresBundleStore
from penstock_coordinator.adapters.postgres.connections import ANSWER_SECONDS, Database, close, connect
from penstock_coordinator.adapters.postgres.incarnations import PostgresIncarnations
from penstock_coordinator.adapters.postgres.journal import PostgresJournal
from penstock_coordinator.adapters.postgres.log_store import PostgresLogStore
from penstock_coordinator.adapters.postgres.partitions import PartitionKeeper
from penstock_coordinator.adapters.postgres.pipeline_store import PostgresPipelineStore
from penstock_coordinator.adapters.postgres.retention import PostgresRetentionStore
from penstock_coordinator.adapters.postgres.run_index import PostgresRunIndex
from penstock_coordinator.adapters.postgres.schema import check_version
from penstock_coordinator.ports import Stores

if TYPE_CHECKING:
    from collections.abc import Callable

POOL_SIZE = 8


@dataclass(frozen=True, slots=True)
class PostgresStores(Stores):
    """The stores of one coordinator. Its journal accepts commits after `incarnations.incarnate` of its own id."""

    partitions: PartitionKeeper
    """A periodic service that the coordinator has to run."""
    _database: Database
    _postgres_journal: PostgresJournal

    @property
    def available(self) -> bool:
        """False while a commit waits for the database."""
        return self._postgres_journal.available

    async def aclose(self) -> None:
        """Not to be called while anything is under way. Idempotent."""
        await self._postgres_journal.aclose()
        await self._database.aclose()


async def open_stores(
    dsn: str,
    *,
    coordinator_id: str,
    lanes: int,
    pool_size: int = POOL_SIZE,
    answer_timeout: float = ANSWER_SECONDS,
    on_availability: Callable[[bool], None] | None = None,
) -> PostgresStores:
    """Connect, and check the schema. It does not wait: raises `SchemaOutdated` and what asyncpg and the system raise
    (`asyncpg.PostgresError`, `OSError`), so that a wrong address, password or database is seen as it is.

    It takes `pool_size` connections and one per lane. A connection that gives no answer for `answer_timeout` seconds
    is cut: what was asked fails, what was to be committed is looked up and sent again. `on_availability` hears False
    when commits wait for the database, True when it is back.
    """
    probe = await connect(dsn, "penstock start")
    try:
        await check_version(probe)
    finally:
        await close(probe)
    database = await Database.open(dsn, f"penstock {coordinator_id}", pool_size, answer_timeout)
    journal = PostgresJournal(dsn, database, coordinator_id, lanes, answer_timeout, on_availability)

    def speak(epoch: int) -> None:
        journal.epoch = epoch

    return PostgresStores(
        journal=journal,
        runs=PostgresRunIndex(database),
        pipelines=PostgresPipelineStore(database),
        bundles=PostgresBundleStore(database),
        agents=PostgresAgentRegistry(database),
        incarnations=PostgresIncarnations(database, coordinator_id, speak),
        logs=PostgresLogStore(database),
        bulk_jobs=PostgresBulkJobStore(database),
        retention=PostgresRetentionStore(database),
        partitions=PartitionKeeper(database),
        _database=database,
        _postgres_journal=journal,
    )
