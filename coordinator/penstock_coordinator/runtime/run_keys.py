"""Whoever claims run keys has them for itself until it is known what became of the claim."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from penstock_coordinator.ports import KeyClaim

_Name = tuple[str, str]


@dataclass(slots=True)
class _Turnstile:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class KeyTurns:
    """The journal refuses a key that is taken by itself. Here others are kept away meanwhile, so that a call which
    claims several may look at all of them before it claims the first."""

    def __init__(self) -> None:
        self._turnstiles: dict[_Name, _Turnstile] = {}

    @asynccontextmanager
    async def hold(self, claims: Iterable[KeyClaim]) -> AsyncIterator[None]:
        """One at a time for each key; in one order, so that no two wait for each other."""
        async with AsyncExitStack() as held:
            for name in sorted({(claim.pipeline, claim.run_key) for claim in claims}):
                await held.enter_async_context(self._hold(name))
            yield

    @asynccontextmanager
    async def _hold(self, name: _Name) -> AsyncIterator[None]:
        turnstile = self._turnstiles.setdefault(name, _Turnstile())
        turnstile.users += 1
        try:
            async with turnstile.lock:
                yield
        finally:
            turnstile.users -= 1
            if not turnstile.users:
                del self._turnstiles[name]
