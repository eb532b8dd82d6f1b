"""What can be wrong with a condition: before a run, and in one."""

from __future__ import annotations


class InvalidCondition(ValueError):
    """The expression is refused before anything runs. `position` counts characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.message = message
        self.position = position


class ConditionError(Exception):
    """The expression has no answer for the values of this run; the message says why, for people."""


class MemberMissing(ConditionError):
    """A member that the expression reads is not there: what `has()` asks."""
