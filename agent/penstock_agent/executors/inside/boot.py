"""`python3 boot.py LIBRARY` in the image of a step: its order comes on standard input.

This file is read by whatever Python the image has, so it says nothing that an old one cannot read.
"""

from __future__ import annotations

import os
import sys

OLDEST = (3, 11)


def main() -> None:
    if sys.version_info < OLDEST:
        found, oldest = (".".join(map(str, version)) for version in (sys.version_info[:2], OLDEST))
        sys.exit(f"the image has Python {found}, and a step that is a Python function needs {oldest} or newer")
    library = sys.argv[1]
    order = sys.stdin.buffer.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # In place of this file's own folder, whose modules are nobody's but the agent's.
    sys.path[0] = f"{library}/agent"
    from penstock_agent.executors.bare.messages import stand_in

    sys.modules["msgspec"] = stand_in()
    # What is imported later finds no stand-in, so all is imported now.
    from penstock_agent.executors.inside import function
    from penstock_agent.executors.worker import attempt_secrets  # noqa: F401

    del sys.modules["msgspec"]
    del sys.path[0]
    sys.path.append(f"{library}/sdk")
    function.run(order)


main()
