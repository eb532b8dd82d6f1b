"""Runs a module as a program that ends when its supervisor does: `python -m penstock.dev.leash FDS SECONDS MODULE ...`

The first of FDS (5,6) is the reading end of a pipe that the supervisor holds open. Its end means that the supervisor is
gone, however it went: then this process asks itself to end (SIGTERM), and kills itself when that takes more than
SECONDS. A pipe is safer than a parent-death signal, which is bound to the thread that started the child. The other
descriptors are only held. None of them is for what this process starts.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time


def main(arguments: list[str]) -> None:
    inherited, patience, module, *rest = arguments
    fds = [int(fd) for fd in inherited.split(",")]
    for fd in fds:
        os.set_inheritable(fd, False)
    threading.Thread(target=_watch, args=(fds[0], float(patience)), name="leash", daemon=True).start()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(leash: int, patience: float) -> None:
    os.read(leash, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
