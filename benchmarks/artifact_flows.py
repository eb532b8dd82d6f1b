"""Pipelines that move bytes. This folder alone is the bundle, as of `flows`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from penstock import Artifact, pipeline, step

PIECE = 1 << 20


@step(labels={"place": "first"})
def write(size: int) -> dict[str, Any]:
    """A file of chance; `at` is when the step has nothing more to do."""
    with Path("large.bin").open("wb") as file:
        for _ in range(size // PIECE):
            file.write(os.urandom(PIECE))
        file.flush()
        os.fsync(file.fileno())
    return {"file": Artifact.file("large.bin"), "at": time.time()}


@step(labels={"place": "second"})
def read(file: Artifact, sent_at: float) -> dict[str, Any]:
    return {"seconds": time.time() - sent_at, "size": file.path.stat().st_size, "digest": file.digest}


@pipeline
def travel(size: int) -> Any:
    written = write(size)
    return read(written["file"], written["at"])


@step
def large_text(position: int) -> str:
    """100 KB, another text for each."""
    return f"{position:010d}" * 10_000


@pipeline
def large_texts(items: list[int]) -> None:
    """Without an output of its own: ten thousand references would be too large for one."""
    large_text.map(items)
