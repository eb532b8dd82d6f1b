"""The folder from which a worker in a foreign Python imports the agent's code and the SDK, and nothing else."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

BOOT = str(Path(__file__).with_name("boot.py"))
_AGENT, _SDK = "penstock_agent", "penstock"


def make_library(folder: Path) -> str:
    """Links to the two packages; the same if it was made before."""
    for name, package in (("agent", _AGENT), ("sdk", _SDK)):
        link = folder / name / package
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(_home_of(package), target_is_directory=True)
    return str(folder)


def _home_of(package: str) -> Path:
    """Found, not imported: the SDK is the user's."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
