"""Which coordinator to go to next. The next one is tried at once; only after a whole round is there a pause."""

from __future__ import annotations


class Rounds:
    """Addresses in order, over and over. A coordinator may name another address, which is tried first, once."""

    def __init__(self, addresses: list[str], start: float = 0.0) -> None:
        """`start`: from 0 to 1, where in the list to begin, so that many agents do not begin with the same one."""
        self._addresses = addresses
        self._at = int(start * len(addresses)) % len(addresses)
        self._named: str | None = None
        self._tried = 0
        """Since the last pause, or since one was good."""

    @property
    def several(self) -> bool:
        return len(self._addresses) > 1

    def known(self, addresses: list[str]) -> None:
        """They are these now. The order goes on where it was, as far as that is still there."""
        if addresses and addresses != self._addresses:
            current = self._addresses[self._at]
            self._addresses = addresses
            self._at = addresses.index(current) if current in addresses else 0

    def name(self, address: str) -> None:
        """Somebody says that this is the one to go to."""
        self._named = address

    @property
    def is_sent(self) -> bool:
        """Somebody has named where to go now."""
        return self._named is not None

    def next(self) -> str:
        """Where to go now. A named address that is in the list is the place to go on from."""
        named, self._named = self._named, None
        if named is None:
            return self._addresses[self._at]
        if named in self._addresses:
            self._at = self._addresses.index(named)
        return named

    def over(self, *, good: bool) -> bool:
        """The one that was tried is over; `good`: it had welcomed the agent. True: a whole round is over, pause now."""
        self._tried = 1 if good else self._tried + 1
        if self._named is not None:
            # Two that name each other are no reason to go to and fro without a pause.
            pause = self._tried > len(self._addresses) + 1
        else:
            self._at = (self._at + 1) % len(self._addresses)
            pause = self._tried >= len(self._addresses)
        if pause:
            self._tried = 0
        return pause
