"""`python -P boot.py LIBRARY SETUP` in the environment of a step: a worker as others are.

`LIBRARY` has the agent's own code in `agent/` and the SDK in `sdk/`, and nothing of what these need: of the worker that
is the standard library, and the step runtime of the SDK needs no more. What the environment has itself goes before the
SDK, and the worker is not taken from the environment, even if that has Penstock in it.
"""

from __future__ import annotations

import sys


def main() -> None:
    library, setup = sys.argv[1:3]
    sys.path.insert(0, f"{library}/agent")
    from penstock_agent.executors.bare.messages import stand_in

    own = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "msgspec"}
    sys.modules["msgspec"] = stand_in()
    # What is imported later finds no stand-in, so all is imported now.
    from penstock_agent.executors.worker import attempt_secrets, loop  # noqa: F401

    del sys.modules["msgspec"]
    sys.modules.update(own)
    sys.path.remove(f"{library}/agent")
    sys.path.append(f"{library}/sdk")
    sys.argv = ["", setup]
    loop.main()


main()
