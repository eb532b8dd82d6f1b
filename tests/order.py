"""The order of the files. Processes that share the tests take one file after the other, so what takes long comes first:
begun last, it would end alone while the others have nothing left to do."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
ORDER = (
    "chaos/test_chaos.py",
    "integration/dev",
    "e2e/artifacts",
    "e2e/environments",
    "e2e/demo",
    "e2e/outages",
    "unit/run/test_schedules.py",
    "e2e/ownership",
    "simulation",
    "e2e",
    "integration",
    "contract",
    "replay",
    "chaos",
    "scripts",
    "unit",
)
"""Files and folders of this one; the first that fits counts. Outages and take-overs hold bounds of seconds: they come
after chaos, which takes all cores that there are, and beside what takes one. Files of one folder follow each other, as
they share what they start; the end is left to what takes moments."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Within a file the order stays, and that of the files within a folder."""
    items.sort(key=lambda item: place(item.path.relative_to(ROOT).as_posix()))


def place(path: str) -> int:
    """Of a file, by its path in this folder. What is not named comes first: it may take long."""
    return next((at for at, named in enumerate(ORDER) if f"{path}/".startswith(f"{named}/")), -1)
