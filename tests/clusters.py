"""A cluster of PostgreSQL with the schema of today, put in place in a moment.

The first start of a server makes its cluster, and each step of that waits for the disk; then a coordinator makes the
schema. A test that is not about either has both copied from one that this process made before.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from penstock.dev.postgres import EmbeddedPostgres

_KEPT = ("cluster", "password")
"""Of a server's data folder; all else is of its last run."""


def prepared(folder: Path) -> Path:
    """The data folder of a server that was not started yet, as its first start would leave it, and with the schema."""
    made = _made()
    folder.mkdir(mode=0o700, parents=True)
    # Owners are kept: started by root, a server is of another user.
    subprocess.run(["cp", "-a", *(str(made / each) for each in _KEPT), str(folder)], check=True)
    return folder


@functools.cache
def _made() -> Path:
    home = Path(tempfile.mkdtemp(prefix="penstock-cluster-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    with EmbeddedPostgres(home / "data", settings={"fsync": "off"}) as server, ThreadPoolExecutor(1) as thread:
        # In a thread of its own: whoever asks for it may have a loop that runs.
        thread.submit(_migrate, server.dsn).result()
    return home / "data"


def _migrate(dsn: str) -> None:
    from penstock_coordinator.adapters.postgres.schema import migrate

    asyncio.run(migrate(dsn))
