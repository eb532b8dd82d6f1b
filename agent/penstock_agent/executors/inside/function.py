"""A Python function as a step, in a container: its folder, its call, its result in a file."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import cast

import msgspec

from penstock_agent.executors.channel import Finished, Order, Task
from penstock_agent.executors.worker.capture import Capture
from penstock_agent.executors.worker.encoding import OutputEncoder
from penstock_agent.executors.worker.failures import StepStopped, failure_of
from penstock_agent.executors.worker.functions import FunctionRunner
from penstock_agent.executors.worker.stopping import StopSwitch
from penstock_agent.executors.worker.surroundings import Surroundings
from penstock_agent.secrets.masking import Masker

BEGAN, RESULT = "began", "result"
"""Files in the attempt's folder."""
_decode = msgspec.msgpack.Decoder(Order).decode
_encode = msgspec.msgpack.Encoder().encode


class _NoCapture:
    """What is printed is read outside."""

    def begin(self, handle: int) -> None: ...

    def end(self) -> None: ...


class _Switch:
    """SIGTERM stops the attempt: there is no other in this process."""

    def __init__(self) -> None:
        self._armed = self._stopped = False

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._handle)

    def arm(self, handle: int) -> None:
        self._armed = True
        if self._stopped:
            self._stop()

    def disarm(self) -> None:
        self._armed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        if self._armed:
            self._stop()

    def _stop(self) -> None:
        self._armed = False
        raise StepStopped("the step was asked to stop")


def run(said: bytes) -> None:
    """Ends the process: threads that the step left behind do not keep it."""
    order = _decode(said)
    folder = Path(order.folder)
    (folder / BEGAN).touch()
    switch = _Switch()
    switch.install()
    _prepare(order.bundle_dir)
    finished = _attempt(order, order.task, switch, str(folder / "work"))
    result = folder / f"{RESULT}.new"
    result.write_bytes(_encode(finished))
    result.rename(folder / RESULT)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _attempt(order: Order, task: Task, switch: _Switch, work_dir: str) -> Finished:
    capture, armed = cast("Capture", _NoCapture()), cast("StopSwitch", switch)
    encoder = OutputEncoder(order.outgoing_dir, work_dir)
    runner = FunctionRunner(order.bundle_dir, Surroundings(work_dir), capture, armed, encoder)
    if task.secrets:
        runner.hide = Masker(secret.value for secret in task.secrets).text
    try:
        return runner.run(task)
    except StepStopped as stop:
        return Finished(task.handle, failure=failure_of(stop, "Cancelled"), stopped=True)
    finally:
        runner.traces.close()


def _prepare(bundle_dir: str) -> None:
    """The import path of the bundle comes first, as in other workers."""
    if bundle_dir:
        source = Path(bundle_dir, "src")
        sys.path[:0] = [bundle_dir, str(source)] if source.is_dir() else [bundle_dir]
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.argv = [""]
