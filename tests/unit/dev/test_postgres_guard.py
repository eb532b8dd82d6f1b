"""The guard of the development PostgreSQL: what it is asked to end, ends."""

from __future__ import annotations

import os
import subprocess
import sys

from penstock.dev import postgres_guard

IN_THE_BACKGROUND = """
import os, signal, sys
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_server_that_a_script_started_in_the_background_ends_at_once_when_it_is_asked_to() -> None:
    """As a server that has not set its signals up yet: it has those that it inherits."""
    guard = [postgres_guard.__file__, str(os.getuid()), str(os.getgid()), "10", "", "--", "sleep", "600"]
    with subprocess.Popen([sys.executable, "-c", IN_THE_BACKGROUND, *guard], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"i")
        process.stdin.flush()
        try:
            assert process.wait(30) != 0
        finally:
            process.kill()
