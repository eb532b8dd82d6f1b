"""SIGTERM for the attempt that runs, and for no other.

The agent writes the attempt's handle to the control pipe before it signals: a signal that comes when the attempt has
ended and the next one runs does nothing.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from penstock_agent.executors.worker.failures import StepStopped

HANDLE = struct.Struct(">Q")


class StopSwitch:
    def __init__(self, control: int) -> None:
        self._control = control
        self._wanted: set[int] = set()
        self._current: int | None = None
        self._on_stop: Callable[[], None] | None = None

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self.handler)

    def arm(self, handle: int, on_stop: Callable[[], None] | None = None) -> None:
        """A stop of `handle` calls `on_stop`, or raises `StepStopped` in the main thread."""
        self._on_stop = on_stop
        self._current = handle

    def disarm(self) -> None:
        self._current = None

    def handler(self, number: int, frame: FrameType | None) -> None:
        named = self._named()
        current = self._current
        if current is None:
            if not named:
                raise SystemExit(128 + number)
            return
        # A SIGTERM that does not come from the agent is for whatever runs.
        if named and current not in self._wanted:
            return
        if self._on_stop is not None:
            self._on_stop()
            return
        self._current = None
        raise StepStopped("the step was asked to stop")

    def _named(self) -> set[int]:
        data = b""
        with suppress(BlockingIOError, OSError):
            data = os.read(self._control, 4096)
        named = {HANDLE.unpack_from(data, at)[0] for at in range(0, len(data) - HANDLE.size + 1, HANDLE.size)}
        self._wanted |= named
        return named
