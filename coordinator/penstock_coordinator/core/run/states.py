"""The states of runs and step runs. The numbers are those of the proto, and of journals for ever."""

from __future__ import annotations

import enum


class RunState(enum.IntEnum):
    PENDING = 1
    """Nothing of it has started: no step run got a lease, began to wait
    for a run below, or was looked up in the cache. It may be held."""
    RUNNING = 2
    """Something of it has started in this generation."""
    PAUSED = 3
    """A person paused it: nothing starts, what runs goes on."""
    CANCELLING = 4
    """It is being stopped, by a person, its timeout or its first failure. How it will end is decided."""
    ROLLING_BACK = 5
    """What is COMPLETED and can be undone is being undone, the latest first."""
    COMPLETED = 6
    """At rest: no step failed that was not allowed to."""
    FAILED = 7
    """At rest: a step failed, or the run took too long."""
    CANCELLED = 8
    """At rest: it was cancelled, or refused before it began."""
    ROLLED_BACK = 9
    """At rest: all that could be undone is undone."""

    @property
    def at_rest(self) -> bool:
        return self >= RunState.COMPLETED


class StepState(enum.IntEnum):
    PENDING = 1
    """It waits for its upstream, or for its turn to be decided."""
    READY = 2
    """It waits for an agent; of a sub-pipeline, for its run to be started; of one with a cache policy at first, to be
    looked up."""
    RUNNING = 3
    """It holds a lease. A mapped step as a whole: its items are not all at rest."""
    WAITING = 4
    """It waits for the end of a backoff, of the run that it is, or for the cache."""
    COMPLETED = 5
    """At rest: it has an output, which may be null."""
    FAILED = 6
    """At rest: its last attempt failed, a clock ran out, or it could not be begun."""
    SKIPPED = 7
    """At rest without an attempt: its rule or its condition says so; or it undoes another step, and there is nothing to
    undo (yet)."""
    UPSTREAM_FAILED = 8
    """At rest without an attempt: its rule cannot hold any more, because something before it failed; or it undoes
    another step, and what rests on that could not be undone."""
    CANCELLED = 9
    """At rest: the run was being stopped, or the policy of a limit displaced it."""
    ROLLED_BACK = 10
    """At rest: it was COMPLETED, and the step that undoes it has completed."""

    @property
    def at_rest(self) -> bool:
        return self >= StepState.COMPLETED
