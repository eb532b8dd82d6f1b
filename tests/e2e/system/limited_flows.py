"""Steps that write when they begin and end, under limits on concurrency."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from penstock import Concurrency, context, pipeline, step

LONGEST = 240.0
"""Longer than the test waits for anything."""


def write(ledger: str, word: str) -> None:
    here = context.current()
    line = f"{word} {here.run_id} {here.step} {here.item} {time.monotonic_ns()}\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@step
def work(ledger: str, seconds: float = 0.05, gate: str = "") -> None:
    """Between its two lines nothing else may be under way than the limit allows. It ends well if it is asked to."""
    stopped = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    write(ledger, "begin")
    wait_for(gate)
    asked = stopped.wait(seconds)
    write(ledger, "end")
    if asked:
        raise SystemExit(1)


def wait_for(gate: str) -> None:
    """Until the test makes the file, or gives up."""
    end, pause = time.monotonic() + LONGEST, threading.Event()
    while gate and not Path(gate).exists() and time.monotonic() < end:
        pause.wait(0.01)


@pipeline(max_active_runs=3)
def three_at_once(ledger: str, seconds: float = 0.05, gate: str = "") -> Any:
    return work(ledger, seconds, gate)


@pipeline(concurrency=Concurrency(expression="'newest-' + params.who", policy="cancel_newest"))
def newest_goes(ledger: str, who: str, gate: str = "") -> Any:
    return work(ledger, 0.0, gate)


@pipeline(concurrency=Concurrency(key="oldest", policy="cancel_oldest"))
def oldest_goes(ledger: str, seconds: float) -> Any:
    return work(ledger, seconds)


@pipeline
def two_of_a_map(ledger: str, items: list[int], gate: str) -> Any:
    return item_work.options(concurrency=Concurrency(key="map", limit=2)).map(items, ledger=ledger, gate=gate)


@step
def item_work(item: int, ledger: str, gate: str) -> int:
    write(ledger, "begin")
    wait_for(gate)
    write(ledger, "end")
    return item


@pipeline
def keyed_step(ledger: str, seconds: float = 0.05) -> Any:
    return work.options(concurrency="step")(ledger, seconds)


@pipeline
def newest_step_goes(ledger: str, gate: str = "") -> Any:
    return work.options(concurrency=Concurrency(key="newest-step", policy="cancel_newest"))(ledger, 0.0, gate)


@pipeline
def oldest_step_goes(ledger: str, seconds: float) -> Any:
    return work.options(concurrency=Concurrency(key="oldest-step", policy="cancel_oldest"))(ledger, seconds)


@pipeline
def plain(ledger: str, seconds: float = 0.05, gate: str = "") -> Any:
    return work(ledger, seconds, gate)
