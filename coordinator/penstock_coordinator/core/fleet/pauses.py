"""Which agents a person has paused."""

from __future__ import annotations

from collections import Counter


class PausedAgents:
    """Rows are the truth; what is known of connected agents is kept here. A session that is opened while somebody
    pauses its agent, or lets it go on, may have read either: what the person said counts."""

    def __init__(self) -> None:
        self._paused: set[str] = set()
        self._changes: Counter[str] = Counter()
        """Begun and ended, by agent."""

    def __contains__(self, agent: str) -> bool:
        return agent in self._paused

    def mark(self, agent: str) -> int:
        """To be asked for before the row is read. Odd while it is being changed."""
        return self._changes[agent]

    def read(self, agent: str, mark: int, *, paused: bool) -> None:
        """What the row said, if nobody has changed it meanwhile."""
        if mark % 2 == 0 and mark == self._changes[agent]:
            self._note(agent, paused=paused)

    def begin_change(self, agent: str) -> None:
        """Somebody writes the row. One change of an agent ends before the next one begins."""
        self._changes[agent] += 1

    def end_change(self, agent: str, paused: bool | None) -> None:
        """What the row says from now on; None: it is not known to have been changed."""
        self._changes[agent] += 1
        if paused is not None:
            self._note(agent, paused=paused)

    def _note(self, agent: str, *, paused: bool) -> None:
        if paused:
            self._paused.add(agent)
        else:
            self._paused.discard(agent)
