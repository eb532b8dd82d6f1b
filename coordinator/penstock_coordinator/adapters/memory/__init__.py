"""The ports in memory: for tests of the runtime, and the model of the database in simulations."""

from penstock_coordinator.adapters.memory.database import MemoryDatabase
from penstock_coordinator.adapters.memory.faults import CommitUnknown, FailBefore, Faults
from penstock_coordinator.adapters.memory.stores import MemoryStores, memory_stores

__all__ = ["CommitUnknown", "FailBefore", "Faults", "MemoryDatabase", "MemoryStores", "memory_stores"]
