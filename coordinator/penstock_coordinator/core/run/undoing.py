"""Where a run stands that is being rolled back."""

from __future__ import annotations

from array import array


class Undoing:
    """From the event that asks for it until the next generation. A step is passed when nothing of it is left to undo: a
    step is undone when all that came to rest later and is joined with it by an edge is passed."""

    __slots__ = ("begun", "blocked", "later", "passed", "reason", "requested_by", "stuck", "undone")

    def __init__(self, reason: str, requested_by: str) -> None:
        self.reason = reason
        self.requested_by = requested_by
        self.begun = False
        """It is decided what is to be undone."""
        self.later = array("I")
        """By step: neighbours that came to rest later, and are not passed."""
        self.passed = bytearray()
        """By step."""
        self.blocked = bytearray()
        """By step: whether something that rests on it could not be undone, so that it is not undone either."""
        self.stuck: dict[int, None] = {}
        """Steps that would undo blocked ones, and are to come to rest without an attempt."""
        self.undone: list[tuple[int, int]] = []
        """(step, item) whose undoing has completed, and that are not ROLLED_BACK yet."""
