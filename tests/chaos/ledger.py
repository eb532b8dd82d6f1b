"""What really ran, by the steps' own account."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Key: TypeAlias = "tuple[str, str, str]"
"""(run, step, item), as the steps write them."""


@dataclass(slots=True)
class Execution:
    """User code that began."""

    attempt: int
    agent: str
    pid: int
    nonce: str
    began: int
    """Microseconds since 1970."""
    given: frozenset[str]
    """The nonces of the executions whose outputs it was given."""
    ended: int = 0
    """0: it never said so."""
    failed: bool = False
    """As it was meant to."""


def read(path: Path) -> dict[Key, list[Execution]]:
    """Of each step run, its executions in the order in which they began."""
    executions: defaultdict[Key, list[Execution]] = defaultdict(list)
    by_nonce: dict[str, Execution] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        word, run, step, item, attempt, agent, pid, nonce, at, given = line.split(" ")
        if word == "begin":
            nonces = frozenset() if given == "-" else frozenset(given.split(","))
            made = Execution(int(attempt), agent, int(pid), nonce, int(at), nonces)
            by_nonce[nonce] = made
            executions[run, step, item].append(made)
        else:
            by_nonce[nonce].ended = int(at)
            by_nonce[nonce].failed = word == "fail"
    return dict(executions)
