"""Migrations follow each other in the order of their numbers: two that were made side by side are told before any
database is."""

from __future__ import annotations

import re
from pathlib import Path

import penstock_coordinator.adapters.postgres as adapter

VERSIONS = Path(adapter.__file__).parent / "migrations" / "versions"
NAMED = re.compile(r'^(revision|down_revision) = "?(\w+)"?$', re.MULTILINE)


def test_each_migration_comes_after_the_one_before_it() -> None:
    files = sorted(VERSIONS.glob("[0-9]*_*.py"))
    numbers = [path.name.partition("_")[0] for path in files]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
    for path, number, before in zip(files, numbers, ["None", *numbers], strict=False):
        assert dict(NAMED.findall(path.read_text())) == {"revision": number, "down_revision": before}, path.name
