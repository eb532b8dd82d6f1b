"""Opens everything that is kept in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.artifact_store import MemoryArtifactStore
from penstock_coordinator.adapters.postgres.agent_registry import PostgresAgentRegistry
from penstock_coordinator.adapters.postgres.artifact_index import PostgresArtifactIndex
from penstock_coordinator.adapters.postgres.budget_store import PostgresBudgetStore
from penstock_coordinator.adapters.postgres.bulk_job_store import PostgresBulkJobStore
from penstock_coordinator.adapters.postgres.bulkhead import Bulkhead
from penstock_coordinator.adapters.postgres.bundle_store import PostgresBundleStore
from penstock_coordinator.adapters.postgres.cache_store import PostgresCacheStore
from penstock_coordinator.adapters.postgres.connections import (
    ACQUIRE_SECONDS,
    ANSWER_SECONDS,
    Database,
    answering_within,
    close,
    connect,
)
from penstock_coordinator.adapters.postgres.cost_store import PostgresCostStore
from penstock_coordinator.adapters.postgres.dead_letter_store import PostgresDeadLetterStore
from penstock_coordinator.adapters.postgres.incarnations import PostgresIncarnations
from penstock_coordinator.adapters.postgres.journal import PostgresJournal
from penstock_coordinator.adapters.postgres.log_pack_store import PostgresLogPackStore
from penstock_coordinator.adapters.postgres.log_store import PostgresLogStore
from penstock_coordinator.adapters.postgres.partitions import PartitionKeeper
from penstock_coordinator.adapters.postgres.pipeline_store import PostgresPipelineStore
from penstock_coordinator.adapters.postgres.retention import PostgresRetentionStore
from penstock_coordinator.adapters.postgres.run_index import PostgresRunIndex
from penstock_coordinator.adapters.postgres.schema import check_version
from penstock_coordinator.adapters.postgres.secret_store import PostgresSecretStore
from penstock_coordinator.adapters.postgres.signing_key_store import PostgresSigningKeyStore
from penstock_coordinator.core.counts.commits import CommitCounts
from penstock_coordinator.ports import ArtifactStore, Dependency, DependencyState, Stores

if TYPE_CHECKING:
    from collections.abc import Callable

POOL_SIZE = 8


class Shares:
    """Of the pool: what people look at and what is done in the background may take so much of it; the rest is always
    free for what runs and agents need, and for health."""

    def __init__(self, pool_size: int) -> None:
        self.reads = Bulkhead("reading", max(pool_size // 2, 1), ACQUIRE_SECONDS)
        self.cache = Bulkhead("the cache", max(pool_size // 4, 1), ACQUIRE_SECONDS) if pool_size > 2 else self.reads
        self.background = (
            Bulkhead("background work", max(pool_size // 4, 1), ACQUIRE_SECONDS) if pool_size > 2 else self.reads
        )


@dataclass(frozen=True, slots=True)
class PostgresStores(Stores):
    """The stores of one coordinator. Its journal accepts commits after `incarnations.incarnate` of its own id."""

    partitions: PartitionKeeper
    """A periodic service that the coordinator has to run."""
    _database: Database
    _postgres_journal: PostgresJournal
    _shares: Shares

    def dependencies(self) -> list[Dependency]:
        """The pool, the connections of the lanes, and the artifact store."""
        state = DependencyState.CLOSED if self.available else DependencyState.HALF_OPEN
        reason = "" if self.available else f"commits wait for the database: {self._postgres_journal.trouble}"
        shares = dict.fromkeys((self._shares.reads, self._shares.cache, self._shares.background))
        journal = Dependency("journal", state, reason=reason)
        return [self._database.dependency(*shares), journal, self.objects.dependency()]

    @property
    def available(self) -> bool:
        """False while a commit waits for the database."""
        return self._postgres_journal.available

    def try_now(self) -> None:
        """The database was seen to answer after a silence: what waits for another try, or hangs since then, tries at
        once."""
        self._database.try_now()
        self._postgres_journal.try_now()

    async def aclose(self, *, objects: bool = True) -> None:
        """Not to be called while anything is under way. Idempotent. The store of objects may be left open, for those
        who use it on."""
        await self._postgres_journal.aclose()
        await self._database.aclose()
        if objects:
            await self.objects.aclose()


async def open_stores(
    dsn: str,
    *,
    coordinator_id: str,
    lanes: int,
    pool_size: int = POOL_SIZE,
    answer_timeout: float = ANSWER_SECONDS,
    on_availability: Callable[[bool], None] | None = None,
    objects: ArtifactStore | None = None,
    counts: CommitCounts | None = None,
    newer: bool = False,
) -> PostgresStores:
    """Connect, and check the schema. It does not wait: raises `SchemaOutdated` and what asyncpg and the system raise
    (`asyncpg.PostgresError`, `OSError`), so that a wrong address, password or database is seen as it is.

    It takes `pool_size` connections and one per lane. A connection that gives no answer for `answer_timeout` seconds
    is cut: what was asked fails, what was to be committed is looked up and sent again. `on_availability` hears False
    when commits wait for the database, True when it is back. Without `objects` what is put there is kept in memory.
    `newer`: the schema may be that of a later release.
    """
    probe = await connect(dsn, "penstock start")
    try:
        with answering_within(answer_timeout, probe):
            await check_version(probe, newer=newer)
    finally:
        await close(probe)
    database = await Database.open(dsn, f"penstock {coordinator_id}", pool_size, answer_timeout)
    shares = Shares(pool_size)
    reads, background = database.share(shares.reads), database.share(shares.background)
    journal = PostgresJournal(dsn, database, coordinator_id, lanes, answer_timeout, on_availability, reads, counts)

    def speak(epoch: int) -> None:
        journal.epoch = epoch

    return PostgresStores(
        journal=journal,
        runs=PostgresRunIndex(database, reads),
        pipelines=PostgresPipelineStore(database, reads),
        bundles=PostgresBundleStore(database),
        agents=PostgresAgentRegistry(database),
        incarnations=PostgresIncarnations(database, coordinator_id, speak),
        logs=PostgresLogStore(database, reads),
        log_packs=PostgresLogPackStore(background, reads),
        bulk_jobs=PostgresBulkJobStore(database, reads),
        dead_letters=PostgresDeadLetterStore(database, reads),
        cache=PostgresCacheStore(database.share(shares.cache), reads),
        costs=PostgresCostStore(reads),
        budgets=PostgresBudgetStore(database),
        retention=PostgresRetentionStore(background),
        artifacts=PostgresArtifactIndex(database, reads, background),
        objects=objects or MemoryArtifactStore(),
        signing_keys=PostgresSigningKeyStore(database),
        secrets=PostgresSecretStore(database),
        partitions=PartitionKeeper(background),
        _database=database,
        _postgres_journal=journal,
        _shares=shares,
    )
