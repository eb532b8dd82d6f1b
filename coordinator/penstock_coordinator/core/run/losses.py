"""How many agents a step run may kill, and why leases were lost, in words."""

from __future__ import annotations

POISONOUS = 3
"""So many agents die of one step run, and it does not get another."""

_WORDS = {
    "agent_gone": "the agent's connection ended without a goodbye, and it did not come back",
    "agent_paused": "the agent was paused before the attempt was sent to it",
    "agent_restarted": "the agent's process ended and was started again, and the attempt with it",
    "called_back": "the coordinator called the attempt back before it began, so that another agent may take it",
    "grant_not_received": "the agent came back and had never heard of the attempt",
    "inputs_unresolved": "the inputs of the attempt could not be had",
    "lease_expired": "the agent was not heard of for longer than its lease",
    "not_accepted": "the agent did not accept the attempt in time",
    "not_held": "the agent does not hold the attempt any more",
    "returned": "the agent gave the attempt back",
    "session_gone": "the agent's connection ended before the attempt was sent to it",
    "stopped_before_start": "the attempt was stopped before it began",
}
CAUSES = frozenset(_WORDS)
"""Those that a coordinator itself says."""


def lost_in_words(cause: str) -> str:
    """A `LeaseLost`'s cause for people; one that has no words is told as it is."""
    return _WORDS.get(cause, cause)


def losses_in_words(count: int, agent: str, cause: str) -> str:
    """Why a step run failed that lost as many agents as it may; of the last of them name and cause."""
    if count == 1:
        return f"the agent {agent} was lost while it ran this step: {lost_in_words(cause)}"
    return f"{count} agents were lost while they ran this step, the last of them {agent}: {lost_in_words(cause)}"


def poison_in_words(count: int, agent: str) -> str:
    """Why a step run failed of which so many agents died."""
    return (
        f"{count} agents died while they ran this step, the last of them {agent}: what it does may be what kills them,"
        " so no other agent gets it"
    )
