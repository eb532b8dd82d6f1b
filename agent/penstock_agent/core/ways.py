"""Owners that the agent was sent to and could not reach. Until one is tried again, whoever else the agent comes to
hears of it, and may pass its stream on.

Instants and spans are seconds, by a clock of whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE, MOST_PAUSE = 1.0, 12.0
"""Heartbeats until one is tried again: twice as many after each try that fails."""
HEARTBEAT = 5.0
"""Until a coordinator says another one."""
MOST = 8
"""That are remembered."""


@dataclass(slots=True)
class _Blocked:
    tried_at: float
    pause: float
    spread: float
    """From 0.75 to 1.25: agents that lost the way together do not come back in one moment."""


class Ways:
    def __init__(self) -> None:
        self._heartbeat = HEARTBEAT
        self._blocked: dict[str, _Blocked] = {}

    def set_pace(self, heartbeat: float) -> None:
        """The interval of heartbeats; 0: the usual one."""
        self._heartbeat = heartbeat or HEARTBEAT

    def failed(self, address: str, now: float, chance: float) -> None:
        """Nothing was heard there. `chance`: from 0 to 1."""
        before = self._blocked.pop(address, None)
        pause = FIRST_PAUSE if before is None else min(before.pause * 2, MOST_PAUSE)
        self._blocked[address] = _Blocked(now, pause, 0.75 + chance / 2)
        if len(self._blocked) > MOST:
            del self._blocked[next(iter(self._blocked))]

    def reached(self, address: str) -> None:
        self._blocked.pop(address, None)

    @property
    def all_open(self) -> bool:
        """As far as is known."""
        return not self._blocked

    def unreachable(self, now: float) -> list[str]:
        """Those that are not to be tried yet."""
        return [address for address in self._blocked if now < self.retry_at(address)]

    def retry_at(self, address: str) -> float:
        """When it is to be tried again; 0: at once."""
        blocked = self._blocked.get(address)
        return 0.0 if blocked is None else blocked.tried_at + blocked.pause * blocked.spread * self._heartbeat
