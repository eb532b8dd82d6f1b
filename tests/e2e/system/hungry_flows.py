"""Pipelines whose steps want more than they have."""

from __future__ import annotations

import time

from penstock import Retry, context, pipeline, step


@step(memory="96MiB", retry=Retry(max_attempts=2, initial_backoff="10ms", memory_factor=8))
def eats(size: int) -> int:
    held = bytearray(b"x" * size)
    # The first attempt is looked at however much the machine has to do: it does not end by itself.
    time.sleep(200.0 if context.current().attempt == 1 else 3.0)
    return len(held)


@step(memory="96MiB")
def eats_too_much(size: int) -> int:
    held = bytearray(b"x" * size)
    time.sleep(200)
    return len(held)


@step
def fine() -> str:
    return "fine"


@pipeline
def hungry(size: int = 200 << 20) -> None:
    fine()
    eats(size)


@pipeline
def greedy(size: int = 200 << 20) -> None:
    fine()
    eats_too_much(size)
