"""`python -m penstock_agent.executors.guardian MARK`: ends the agent's workers when the agent dies.

An agent that is killed cannot kill its steps, and the coordinator gives them to another agent as soon as it hears of
it. This process does nothing but wait for the end of its standard input, which the agent holds open; then it kills all
processes with the mark. A `q` before the end means that there is nothing to do.
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
    for _ in range(PASSES):
        left = marked(sys.argv[1])
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
