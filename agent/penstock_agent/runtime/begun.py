"""Coroutines that have begun before anybody waits for them."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any


class Begun:
    """Runs a coroutine to its first wait at once: a task would do so only when the event loop has come round. Whoever
    made it awaits it, once, or closes it. Raises what the coroutine raises before it waits.

    Up to that wait it is in the task of whoever made it, or in none: nothing there may use `asyncio.timeout`,
    `asyncio.wait_for` (from Python 3.12 on) or `asyncio.current_task`."""

    def __init__(self, doing: Coroutine[Any, Any, None]) -> None:
        self._doing = doing
        self._waits_for: Any = None
        self._over = False
        self._go_on()

    def _go_on(self, thrown: BaseException | None = None) -> None:
        try:
            self._waits_for = self._doing.send(None) if thrown is None else self._doing.throw(thrown)
        except StopIteration:
            self._over = True

    def close(self) -> None:
        """It goes no further than it is, if it is not over."""
        self._doing.close()

    def __await__(self) -> Generator[Any, None, None]:
        while not self._over:
            try:
                yield self._waits_for
            except BaseException as error:  # of the one who waits: that is the coroutine's to see
                thrown: BaseException | None = error
            else:
                thrown = None
            self._go_on(thrown)
