"""Reads the settings for a coordinator: `python -m penstock_coordinator.settings_telling FD ARGUMENTS...`

What it has read it writes to the descriptor.
"""

from __future__ import annotations

import os
import pickle
import sys

from penstock_coordinator.commands import to_serve


def main(descriptor: int, arguments: list[str]) -> None:
    told = pickle.dumps(to_serve(arguments))
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(told)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
