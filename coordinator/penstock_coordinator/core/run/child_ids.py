"""The ids of runs that are steps of other runs: they follow from what is known when they are decided."""

from __future__ import annotations

import hashlib


def child_run_id(parent: bytes, step: int, item: int, attempt: int, at: int) -> bytes:
    """A UUID of version 7 with the milliseconds of the instant, the same whenever it is asked for. `item` is the number
    under which the item is kept."""
    digest = hashlib.sha256(parent + f"/{step}/{item}/{attempt}".encode()).digest()
    made = bytearray((at // 1000).to_bytes(6, "big") + digest[:10])
    made[6] = 0x70 | (made[6] & 0x0F)
    made[8] = 0x80 | (made[8] & 0x3F)
    return bytes(made)


def spelled_id(run_id: bytes) -> str:
    """As people write it."""
    text = run_id.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
