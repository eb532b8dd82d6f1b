"""`logging` in steps: what user code says is in the step's log, from INFO on, unless user code has its own mind."""

from __future__ import annotations

import sys
from typing import Any

FORM = "%(levelname)s %(name)s: %(message)s"


def show_from_info() -> None:
    """Python itself shows warnings and above, without level or name, where nobody has configured logging.

    Only that last resort is changed, and the root's level if nobody has set it: `basicConfig` and handlers of user
    code work as ever. Nothing happens where nobody has imported `logging`, which costs a worker its start.
    """
    logging: Any = sys.modules.get("logging")
    if logging is None or logging.root.handlers or logging.root.level != logging.WARNING:
        return
    last_resort = logging.StreamHandler()
    last_resort.setFormatter(logging.Formatter(FORM))
    logging.lastResort = last_resort
    logging.root.setLevel(logging.INFO)
