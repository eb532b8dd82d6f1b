"""The names that callers give to runs, one live run each."""

from __future__ import annotations

import enum

import msgspec


class Reuse(enum.IntEnum):
    """When the newest run of a run key is at rest: whether another may have the key. The numbers are those of the
    proto's RunKeyReuse."""

    ALLOW = 1
    AFTER_FAILURE = 2
    """If it is not COMPLETED."""
    REJECT = 3


class KeyClaim(msgspec.Struct, frozen=True, gc=False):
    """The record's run is to be the newest of its run key. Nothing of the record is stored if another run has the key
    that is live, or whose rest does not give it free. A run that has the key already keeps it."""

    pipeline: str
    run_key: str
    reuse: Reuse = Reuse.ALLOW


AT_REST = 6
COMPLETED = 6
"""Of the states of runs: from here on they are at rest, and this one ended well."""


def gives_free(state: int, reuse: Reuse) -> bool:
    """Whether a run in this state leaves its run key to another."""
    if state < AT_REST or reuse is Reuse.REJECT:
        return False
    return reuse is Reuse.ALLOW or state != COMPLETED
