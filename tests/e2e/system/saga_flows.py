"""Bookings, and what cancels them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from penstock import context, pipeline, step


def _note(ledger: str, line: str) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@step
def cancel_booking(output: dict[str, Any], kind: str, ledger: str, seconds: float) -> None:
    threading.Event().wait(seconds)
    _note(ledger, f"cancel {kind} {output['id']} {context.current().attempt}")


@step(compensate=cancel_booking)
def book(kind: str, ledger: str, seconds: float, fails: bool = False) -> dict[str, Any]:
    if fails:
        raise RuntimeError(f"no {kind} is left")
    _note(ledger, f"book {kind}")
    return {"id": f"{kind}-1", "seconds": seconds}


@pipeline(on_failure="rollback")
def journey(ledger: str, seconds: float = 0.0) -> None:
    """Five bookings, one after the other. The fourth fails."""
    before: Any = None
    for kind in ("flight", "hotel", "car", "insurance", "dinner"):
        call = book.options(name=kind)
        booked: Any = call(kind, ledger, seconds, fails=kind == "insurance")
        if before is not None:
            booked.after(before)
        before = booked


@step
def give_back(output: int, number: int, ledger: str, broken: str = "") -> None:
    if broken and Path(broken).exists():
        raise RuntimeError(f"{number} cannot be given back")
    _note(ledger, f"give back {number} {output}")


@step(compensate=give_back)
def take(number: int, ledger: str, broken: str) -> int:
    _note(ledger, f"take {number}")
    return number * 10


@step
def count(taken: list[int]) -> int:
    return len(taken)


@pipeline
def loan(numbers: list[int], ledger: str, broken: str = "") -> Any:
    """A map, each item of which can be undone, and a step that cannot."""
    return count(take.map(numbers, ledger, broken))
