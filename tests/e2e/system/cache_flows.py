"""A value that is dear, and a file that tells how often it was computed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from penstock import CachePolicy, pipeline, step


@step(cache=CachePolicy(ignore=["ledger", "gate"]))
def dear(value: int, ledger: str, gate: str) -> int:
    """Write one line when the work is done, which is not before the gate is open."""
    Path(f"{gate}.begun").touch()
    pause = threading.Event()
    while not Path(gate).exists():
        pause.wait(0.02)
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{value}\n".encode())
    os.close(descriptor)
    return value * 10


@step
def plus_one(value: int) -> int:
    return value + 1


@pipeline
def costly(value: int, ledger: str, gate: str) -> int:
    found: int = plus_one(dear(value, ledger, gate))
    return found
