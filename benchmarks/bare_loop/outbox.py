"""What is to be sent: it leaves in batches of whatever is there."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from benchmarks.bare_loop.wire import MOST_PER_MESSAGE, Steps


class Outbox:
    def __init__(self) -> None:
        self._steps: deque[Any] = deque()
        self._filled = asyncio.Event()

    def put(self, step: Any) -> None:
        self._steps.append(step)
        self._filled.set()

    async def next_batch(self) -> Any:
        """As soon as there is anything, all of it, up to what one message may hold."""
        while not self._steps:
            self._filled.clear()
            await self._filled.wait()
        count = min(len(self._steps), MOST_PER_MESSAGE)
        return Steps(steps=[self._steps.popleft() for _ in range(count)])
