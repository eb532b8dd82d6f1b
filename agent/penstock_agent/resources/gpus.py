"""Which graphics processors steps may be given.

Found are those of NVIDIA: by `nvidia-smi`, else by what its driver shows in /proc. Others are declared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from penstock_agent.own_log import OwnLog

log = OwnLog(__name__)

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
PATIENCE = 20.0
"""Seconds: a driver that is just being loaded takes its time."""
_DRIVER = Path("/proc/driver/nvidia/gpus")


def found(environment: Mapping[str, str] = os.environ, driver: Path = _DRIVER) -> tuple[str, ...]:
    """The devices, as CUDA_VISIBLE_DEVICES names them. Where that variable is set for the agent, it has those alone."""
    visible = environment.get(VISIBLE)
    if visible is not None:
        return named(visible)
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    listed = None if program is None else _ask(program)
    return _by_driver(driver) if listed is None else listed


def named(text: str) -> tuple[str, ...]:
    """Of a list with commas. As CUDA does it, what follows -1 is not there."""
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name == "-1":
            break
        if name and name not in names:
            names.append(name)
    return tuple(names)


def variables(devices: tuple[str, ...]) -> dict[str, str]:
    """What an attempt is told of its devices. The order makes numbers mean what nvidia-smi means by them."""
    return {VISIBLE: ",".join(devices), ORDER: "PCI_BUS_ID"} if devices else {}


def _ask(program: str) -> tuple[str, ...] | None:
    """None: it cannot say."""
    argv = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("gpus_not_listed", program=program, reason=str(error))
        return None
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip().isdigit())


def _by_driver(folder: Path) -> tuple[str, ...]:
    """The driver's folders are named by bus addresses: in their order the devices have their numbers."""
    count = 0
    with suppress(OSError):
        count = sum(1 for _ in folder.iterdir())
    return tuple(map(str, range(count)))
