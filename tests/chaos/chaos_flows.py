"""Pipelines of five step runs that write a ledger of what really ran, outside of Penstock."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any

from penstock import Pipeline, Retry, context, pipeline, step

AGAIN = Retry(max_attempts=20, initial_backoff=0.1, multiplier=1.5, max_backoff=1.0)
"""A step process that is killed fails an attempt: no run is to end badly for that."""


class FailsNowAndThen(Exception):
    """As planned."""


def write(ledger: str, *words: object) -> None:
    """One line in one write, on the disk when this returns."""
    line = " ".join(str(word) for word in words) + "\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@step(retry=AGAIN)
def work(
    upstream: Any, ledger: str, seconds: float = 0.0, fails: bool = False, second: Any = None, third: Any = None
) -> str:
    """The output names this very execution, and its lines in the ledger what it was given."""
    here, nonce = context.current(), secrets.token_hex(6)
    who = (here.run_id, here.step, here.item, here.attempt, os.environ.get("CHAOS_AGENT", "-"), os.getpid(), nonce)
    write(ledger, "begin", *who, time.time_ns() // 1_000, ",".join(_nonces([upstream, second, third])) or "-")
    if seconds:
        time.sleep(seconds)
    if fails and here.attempt == 1:
        write(ledger, "fail", *who, time.time_ns() // 1_000, "-")
        raise FailsNowAndThen
    write(ledger, "end", *who, time.time_ns() // 1_000, "-")
    return nonce


def _nonces(given: Any) -> list[str]:
    if isinstance(given, list):
        return [nonce for each in given for nonce in _nonces(each)]
    return [given] if isinstance(given, str) else []


@pipeline(name="chaos_chain")
def chain(ledger: str, seconds: float = 0.0) -> Any:
    value: Any = work.options(name="s0")(None, ledger)
    value = work.options(name="s1")(value, ledger, seconds)
    for number in range(2, 5):
        value = work.options(name=f"s{number}")(value, ledger)
    return value


@pipeline(name="chaos_diamond")
def diamond(ledger: str, seconds: float = 0.0) -> Any:
    first = work.options(name="s0")(None, ledger)
    sides = [work.options(name=f"s{number}")(first, ledger, seconds) for number in (1, 2, 3)]
    return work.options(name="s4")(sides[0], ledger, second=sides[1], third=sides[2])


@pipeline(name="chaos_map")
def mapped(ledger: str, items: list[int], seconds: float = 0.0) -> Any:
    parts = work.options(name="part").map(items, ledger=ledger, seconds=seconds)
    return work.options(name="tail")(work.options(name="join")(parts, ledger), ledger)


@pipeline(name="chaos_flaky")
def flaky(ledger: str, seconds: float = 0.0) -> Any:
    value: Any = None
    for number in range(5):
        value = work.options(name=f"s{number}")(value, ledger, seconds if number == 2 else 0.0, number % 2 == 1)
    return value


PIPELINES = (chain, diamond, mapped, flaky)
STEP_RUNS = 5


@step
def meet(item: int, folder: str, expected: int, seconds: float) -> int:
    """Ends well only if as many as expected run at once."""
    Path(folder, str(item)).touch()
    deadline = time.monotonic() + seconds
    while len(list(Path(folder).iterdir())) < expected:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(list(Path(folder).iterdir()))} of {expected} slots are in use")
        time.sleep(0.01)
    return item


def probe_of(agent: str) -> Pipeline:
    """Uses each slot of the agent at once."""

    @pipeline(name=f"chaos_probe_{agent.replace('-', '_')}")
    def probe(items: list[int], folder: str, expected: int, seconds: float) -> Any:
        at_agent = meet.options(name="meet", labels={"agent": agent})
        return at_agent.map(items, folder=folder, expected=expected, seconds=seconds)

    return probe
