"""`python -m penstock_agent.executors.guardian MARK [ENGINE]`: ends the agent's workers when the agent dies.

An agent that is killed cannot kill its steps, and the coordinator gives them to another agent as soon as it hears of
it. This process does nothing but wait for the end of its standard input, which the agent holds open; then it kills all
processes with the mark, and removes the containers of this start of the agent. A `q` before the end means that there is
nothing to do.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from penstock_agent.executors.processes import marked

PASSES = 50
PAUSE = 0.02


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read().endswith(b"q"):
        return
    _kill_marked(sys.argv[1])
    for engine in sys.argv[2:]:
        _remove_containers(engine, sys.argv[1].rstrip(":"))


def _kill_marked(mark: str) -> None:
    for _ in range(PASSES):
        left = marked(mark)
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)


def _remove_containers(engine: str, boot_id: str) -> None:
    """What is left over is removed at the agent's next start."""
    from penstock_agent.containers.engine import BOOT_LABEL, NoEngine, remove_labelled

    with suppress(NoEngine):
        remove_labelled(engine, BOOT_LABEL, boot_id)


if __name__ == "__main__":
    main()
