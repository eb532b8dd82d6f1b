"""The agents that said goodbye since this coordinator was started, for people who wonder where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.core.dispatch.capacity import Capacity

MOST = 100


class LeftAgents:
    """The last ones, by id."""

    def __init__(self) -> None:
        self._left: dict[str, Capacity] = {}

    def __contains__(self, agent: str) -> bool:
        return agent in self._left

    def says_goodbye(self, capacity: Capacity) -> None:
        self._left.pop(capacity.agent, None)
        self._left[capacity.agent] = capacity
        if len(self._left) > MOST:
            del self._left[next(iter(self._left))]

    def is_back(self, agent: str) -> None:
        self._left.pop(agent, None)

    def all(self) -> list[Capacity]:
        return list(self._left.values())
