"""Why leases were lost, in words."""

from __future__ import annotations

_WORDS = {
    "agent_restarted": "the agent's process ended and was started again, and the attempt with it",
    "grant_not_received": "the agent came back and had never heard of the attempt",
    "lease_expired": "the agent was not heard of for longer than its lease",
    "returned": "the agent gave the attempt back",
    "stopped_before_start": "the attempt was stopped before it began",
}


def lost_in_words(cause: str) -> str:
    """A `LeaseLost`'s cause for people; one that has no words is told as it is."""
    return _WORDS.get(cause, cause)
