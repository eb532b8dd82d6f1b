"""Steps that keep a ledger of what really ran."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from penstock import context, pipeline, step


@step
def work(value: int, ledger: str, seconds: float) -> int:
    """One line at its begin and one at its end."""
    _write(ledger, "begin")
    threading.Event().wait(seconds)
    _write(ledger, "end")
    return value + 1


def _write(ledger: str, word: str) -> None:
    here = context.current()
    line = f"{word} {here.run_id} {here.step} {here.attempt} {os.environ.get('CHAOS_AGENT')} {time.time():.3f}\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@pipeline
def five_steps(ledger: str, seconds: float = 0.05) -> Any:
    value: Any = 0
    for number in range(5):
        value = work.options(name=f"step{number}")(value, ledger, seconds)
    return value


@pipeline
def twenty_steps(ledger: str, seconds: float = 0.05) -> Any:
    value: Any = 0
    for number in range(20):
        value = work.options(name=f"step{number}")(value, ledger, seconds)
    return value


@pipeline
def one_long_step(ledger: str, seconds: float) -> Any:
    return work.options(name="after")(work.options(name="long")(0, ledger, seconds), ledger, 0.0)


@step
def until_there(path: str, ledger: str, seconds: float) -> None:
    """Runs until the file is there, at most so long."""
    _write(ledger, "begin")
    deadline = time.monotonic() + seconds
    while not Path(path).exists() and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    _write(ledger, "end")


@pipeline
def one_that_waits(path: str, ledger: str, seconds: float) -> Any:
    return until_there.options(name="waits")(path, ledger, seconds)
