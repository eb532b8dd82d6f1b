"""Starts what docker-compose.yml says, without Docker, and sees that it works. What that shows: docs/deployment.md.

python -m tests.e2e.compose_without_docker [--folder FOLDER]     exit code 0 if all is well
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from tests.e2e.compose_without_docker.check import check
from tests.e2e.compose_without_docker.definition import Refused
from tests.e2e.compose_without_docker.processes import Failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Start the services of docker-compose.yml without Docker.")
    parser.add_argument("--folder", type=Path, help="keeps data and logs there: an empty one, or none yet")
    folder: Path | None = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as passing:
        chosen = (folder or Path(passing)).absolute()
        chosen.mkdir(parents=True, exist_ok=True)
        try:
            asyncio.run(_check(chosen))
        except (AssertionError, Failed, Refused) as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    return 0


async def _check(folder: Path) -> None:
    """SIGTERM ends it as Ctrl-C does: no process is left."""
    checking = asyncio.ensure_future(check(folder, _say))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, checking.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await checking
    if checking.cancelled():
        raise Failed("it was told to end")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
