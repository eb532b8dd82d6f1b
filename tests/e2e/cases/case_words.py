"""How cases of our own are written: in the words of the public ones."""

from __future__ import annotations

from typing import Any

Case = tuple[dict[str, Any], dict[str, Any]]

AT_ONCE = 20.0
"""Seconds that even a busy machine does not need for what waits for nothing. What is not to be waited for takes 30."""


def step(name: str, *deps: str, do: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"id": name, "deps": list(deps), "do": do, **more}


def given(*steps: dict[str, Any], inputs: dict[str, Any] | None = None, events: Any = (), **run: Any) -> dict[str, Any]:
    return {"run": run, "steps": list(steps), "inputs": inputs or {}, "events": list(events)}


def event(when: str, do: str) -> dict[str, str]:
    return {"when": when, "do": do}


def sleeping(seconds: float, then: Any = "ok") -> dict[str, Any]:
    return {"sleep_s": seconds, "then": then}


def waiting_for(*names: str, then: Any = "ok") -> dict[str, Any]:
    """Until these steps or items have ended: for what must not wait for this one."""
    return {"wait_for": list(names), "then": then}


def retries(executions: int, **more: Any) -> dict[str, Any]:
    return {"max_attempts": executions, **more}
