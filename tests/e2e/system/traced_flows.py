"""Steps with spans of their own."""

from __future__ import annotations

import threading
from pathlib import Path

from opentelemetry import trace

from penstock import Retry, context, pipeline, step

tracer = trace.get_tracer("traced_flows")


@step(retry=Retry(max_attempts=2))
def load() -> list[int]:
    if context.current().attempt == 1:
        raise ValueError("not yet")
    return [1, 2, 3]


@step
def work(item: int) -> int:
    with tracer.start_as_current_span("own work") as span:
        span.set_attribute("item", item)
        return item * 2


@step
def hold(gate: str, begun: str) -> bool:
    """Until somebody opens the gate."""
    Path(begun).touch()
    pause = threading.Event()
    while not Path(gate).exists():
        pause.wait(0.02)
    return True


@step
def total(parts: list[int], held: bool) -> int:
    return sum(parts) if held else 0


@pipeline
def traced(gate: str, begun: str) -> int:
    held = hold(gate, begun)
    return total(work.map(load()), held)
