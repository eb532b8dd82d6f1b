"""What every port has in common: the name of a run, and how a dependency fails."""

from __future__ import annotations

from typing import TypeAlias

RunId: TypeAlias = bytes


class Unavailable(Exception):
    """The dependency is away; nothing is known to have happened. Try again later."""

    retry_after: int | None = None
    """Microseconds until it may be worth while, if that is known."""


class DatabaseFull(Unavailable):
    """The database answers, and has no room for what is to be written: somebody has to make some."""


class StoreUnavailable(Unavailable):
    """The artifact store is what is away, or its disk is full: the database may be well."""


class Crowded(Unavailable):
    """The dependency is there, and all that it has for such calls is in use. Nothing was asked of it."""


class Fenced(Exception):
    """A newer incarnation speaks for this coordinator id: nothing of the batch is stored. Stop."""
