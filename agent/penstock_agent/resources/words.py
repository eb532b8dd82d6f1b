"""What is told of attempts that run out of memory, or ask for what the agent does not have."""

from __future__ import annotations

from collections.abc import Iterable

OUT_OF_MEMORY = "OutOfMemory"
"""The reason of the failure; it is one that `retry_on` can name."""
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def over_limit(limit: int, held: int, interval: float) -> str:
    return (
        f"the attempt held {spelled(held)} of memory, more than its resources.memory_bytes of {spelled(limit)}, and "
        f"was killed with everything that it had started (looked at every {interval:g} s); ask for more, or let "
        f"retry.memory_factor do so"
    )


def killed_at_limit(limit: int) -> str:
    return (
        f"the attempt needed more than its resources.memory_bytes of {spelled(limit)}, and the kernel killed it, with"
        f" everything that it had started (its control group); ask for more, or let retry.memory_factor do so"
    )


def killed_by_kernel(what: str) -> str:
    return (
        f"{what}; the kernel has just killed for lack of memory in the agent's machine or container: "
        f"run fewer attempts there at once, or say with resources.memory_bytes what each needs"
    )


def missing(lacks: Iterable[tuple[str, float, float]]) -> str:
    texts = (f"{name} {wanted:g}, of {has:g} that it has" for name, wanted, has in lacks)
    return f"the attempt asks this agent for more than there is: {'; '.join(texts)}"


def spelled(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}".replace(".0 ", " ")
    return f"{size} bytes"
