"""What every port has in common: the name of a run, and how a dependency fails."""

from __future__ import annotations

from typing import TypeAlias

RunId: TypeAlias = bytes


class Unavailable(Exception):
    """The dependency is away; nothing is known to have happened. Try again later."""


class Fenced(Exception):
    """A newer incarnation speaks for this coordinator id: nothing of the batch is stored. Stop."""
