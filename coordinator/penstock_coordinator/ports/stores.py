"""All ports that are one database."""

from __future__ import annotations

from dataclasses import dataclass

from penstock_coordinator.ports.agents import AgentRegistry, Incarnations
from penstock_coordinator.ports.artifact_index import ArtifactIndex
from penstock_coordinator.ports.artifacts import ArtifactStore
from penstock_coordinator.ports.budgets import BudgetStore
from penstock_coordinator.ports.bulk_jobs import BulkJobStore
from penstock_coordinator.ports.bundles import BundleStore
from penstock_coordinator.ports.cache import CacheStore
from penstock_coordinator.ports.costs import CostStore
from penstock_coordinator.ports.dead_letters import DeadLetterStore
from penstock_coordinator.ports.dependencies import Dependency
from penstock_coordinator.ports.journal import Journal
from penstock_coordinator.ports.log_packs import LogPackStore
from penstock_coordinator.ports.logs import LogStore
from penstock_coordinator.ports.pipelines import PipelineStore
from penstock_coordinator.ports.retention import RetentionStore
from penstock_coordinator.ports.runs import RunIndex
from penstock_coordinator.ports.secrets import SecretStore
from penstock_coordinator.ports.signing_keys import SigningKeyStore


@dataclass(frozen=True, slots=True)
class Stores:
    """All that is kept in PostgreSQL, and the artifact store beside it."""

    journal: Journal
    runs: RunIndex
    pipelines: PipelineStore
    bundles: BundleStore
    agents: AgentRegistry
    incarnations: Incarnations
    logs: LogStore
    log_packs: LogPackStore
    bulk_jobs: BulkJobStore
    dead_letters: DeadLetterStore
    cache: CacheStore
    costs: CostStore
    budgets: BudgetStore
    retention: RetentionStore
    artifacts: ArtifactIndex
    objects: ArtifactStore
    """The bytes of artifacts, which are not in PostgreSQL."""
    signing_keys: SigningKeyStore
    secrets: SecretStore

    def dependencies(self) -> list[Dependency]:
        """How what they need fares. Nothing of what is kept in memory is ever away."""
        return []
