"""Opens stores in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.artifact_index import MemoryArtifactIndex
from penstock_coordinator.adapters.memory.artifact_store import MemoryArtifactStore
from penstock_coordinator.adapters.memory.budget_store import MemoryBudgetStore
from penstock_coordinator.adapters.memory.bulk_job_store import MemoryBulkJobStore
from penstock_coordinator.adapters.memory.cache_store import MemoryCacheStore
from penstock_coordinator.adapters.memory.catalog import (
    MemoryAgentRegistry,
    MemoryBundleStore,
    MemoryLogStore,
    MemoryPipelineStore,
)
from penstock_coordinator.adapters.memory.cost_store import MemoryCostStore
from penstock_coordinator.adapters.memory.dead_letter_store import MemoryDeadLetterStore
from penstock_coordinator.adapters.memory.faults import Faults
from penstock_coordinator.adapters.memory.journal import MemoryIncarnations, MemoryJournal
from penstock_coordinator.adapters.memory.log_pack_store import MemoryLogPackStore
from penstock_coordinator.adapters.memory.retention import MemoryRetentionStore
from penstock_coordinator.adapters.memory.run_index import MemoryRunIndex
from penstock_coordinator.adapters.memory.secret_store import MemorySecretStore
from penstock_coordinator.adapters.memory.signing_key_store import MemorySigningKeyStore
from penstock_coordinator.ports import Dependency, DependencyState, Stores

if TYPE_CHECKING:
    from penstock_coordinator.adapters.memory.database import MemoryDatabase
    from penstock_coordinator.ports import ArtifactStore


@dataclass(frozen=True, slots=True)
class MemoryStores(Stores):
    """The stores of one coordinator. Its journal accepts commits after `incarnations.incarnate` of its own id."""

    faults: Faults
    _memory_journal: MemoryJournal

    @property
    def available(self) -> bool:
        """False while a commit waits for the database."""
        return self._memory_journal.available

    def dependencies(self) -> list[Dependency]:
        state = DependencyState.CLOSED if self.available else DependencyState.HALF_OPEN
        return [Dependency("journal", state, reason="" if self.available else "commits wait for the database")]

    async def aclose(self) -> None:
        """There is nothing to close."""


def memory_stores(
    database: MemoryDatabase,
    *,
    coordinator_id: str,
    lanes: int,
    faults: Faults | None = None,
    objects: ArtifactStore | None = None,
) -> MemoryStores:
    """The stores of a coordinator on a database that others may share."""
    faults = faults or Faults()
    journal = MemoryJournal(database, coordinator_id, lanes, faults)

    def speak(epoch: int) -> None:
        journal.epoch = epoch

    return MemoryStores(
        journal=journal,
        runs=MemoryRunIndex(database),
        pipelines=MemoryPipelineStore(database),
        bundles=MemoryBundleStore(database),
        agents=MemoryAgentRegistry(database),
        incarnations=MemoryIncarnations(database, coordinator_id, speak),
        logs=MemoryLogStore(database),
        log_packs=MemoryLogPackStore(database),
        bulk_jobs=MemoryBulkJobStore(database),
        dead_letters=MemoryDeadLetterStore(database),
        cache=MemoryCacheStore(database),
        costs=MemoryCostStore(database),
        budgets=MemoryBudgetStore(database),
        retention=MemoryRetentionStore(database),
        artifacts=MemoryArtifactIndex(database),
        objects=objects or MemoryArtifactStore(),
        signing_keys=MemorySigningKeyStore(database),
        secrets=MemorySecretStore(database),
        faults=faults,
        _memory_journal=journal,
    )
