"""The journal and everything else that is kept, in PostgreSQL."""

from penstock_coordinator.adapters.postgres.partitions import PartitionKeeper
from penstock_coordinator.adapters.postgres.schema import CannotMigrate, SchemaOutdated, migrate
from penstock_coordinator.adapters.postgres.stores import PostgresStores, open_stores

__all__ = ["CannotMigrate", "PartitionKeeper", "PostgresStores", "SchemaOutdated", "migrate", "open_stores"]
