"""What must always hold. One function for each promise; the simulation calls them with every step that concerns them.

They see everything: the journal as it is stored, every word as it is said, what user code really did, and true time.
Of the coordinator's and the agents' own bookkeeping they believe nothing.
"""

from __future__ import annotations

from penstock.testing.agent_promises import AgentPromises
from penstock.testing.coordinator_promises import CoordinatorPromises
from penstock.testing.journal_promises import JournalPromises
from penstock.testing.ownership_promises import OwnershipPromises
from penstock.testing.witness import Violation

__all__ = ["Invariants", "Violation"]


class Invariants(JournalPromises, CoordinatorPromises, OwnershipPromises, AgentPromises):
    """All of them."""
