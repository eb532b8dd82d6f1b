"""Steps that behave, and steps that do not."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from penstock import context, pipeline, step


@step
def note(value: int, ledger: str, seconds: float) -> int:
    """Write one line when the work is done: the ledger of what really ran."""
    here = context.current()
    threading.Event().wait(seconds)
    line = f"{here.step} {here.item} {here.attempt} {os.getpid()}\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    return value + 1


@pipeline
def two_hundred(ledger: str, items: list[int], long_seconds: float = 1.0) -> Any:
    """A long step, 98 items, a chain of 100, and a join: 200 step runs."""
    long = note.options(name="long")(0, ledger, long_seconds)
    parts = note.options(name="part").map(items, ledger=ledger, seconds=0.02)
    value: Any = 0
    for position in range(100):
        value = note.options(name=f"chain{position}")(value, ledger, 0.005)
    return total(parts, value, long)


@step
def total(parts: list[int], last: int, long: int) -> int:
    return len(parts) + last + long


@step
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@step
def prints_a_gigabyte() -> str:
    line = "x" * 1023 + "\n"
    block = line * 1024
    for _ in range(1024):
        sys.stdout.write(block)
    return "done"


@step
def returns_a_socket() -> Any:
    import socket

    return socket


@step(timeout=6.0)
def ignores_sigterm(mark: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(mark).write_text(str(os.getpid()))
    time.sleep(600)


@step
def sleeps(mark: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(mark).write_text(str(os.getpid()))
    time.sleep(600)


@step
def fine() -> str:
    return "fine"


@pipeline
def crashing() -> Any:
    kills_itself()
    return fine()


@pipeline
def loud() -> Any:
    prints_a_gigabyte()
    return fine()


@pipeline
def strange() -> Any:
    returns_a_socket()
    return fine()


@pipeline
def stubborn(mark: str) -> Any:
    ignores_sigterm(mark)
    return fine()


@pipeline(stop_grace=1.0)
def endless(mark: str) -> Any:
    return sleeps(mark)
