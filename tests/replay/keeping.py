"""A plugin of pytest that keeps what the runtime's integration tests leave in their databases, as chronicles: at the
end of each test, and whenever a coordinator is killed. For `scripts/record_replay.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.replay.chronicles import chronicle_of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-journals", metavar="FOLDER", required=True)
    parser.addoption("--keep-build", metavar="NAME", required=True)


class Keeper:
    def __init__(self, folder: Path, build: str, story: str) -> None:
        self._folder, self._build, self._story = folder, build, story
        self._count = 0

    def keep(self, database: Any, moment: str) -> None:
        if not database.runs:
            return
        self._count += 1
        chronicle = chronicle_of(database, self._build, f"{self._story}, {moment}")
        name = re.sub(r"[^A-Za-z0-9_]+", "-", self._story).removeprefix("test_") + f"-{self._count}.json"
        (self._folder / name).write_bytes(msgspec.json.encode(chronicle))

    def watch(self, world: Any) -> None:
        """Keep the database also when one of the world's coordinators is killed."""
        make = world.coordinator

        async def coordinator(**settings: Any) -> Any:
            made = await make(**settings)
            kill = made.kill

            async def killed() -> None:
                await kill()
                self.keep(world.database, "when a coordinator was killed")

            made.kill = killed
            return made

        world.coordinator = coordinator


@pytest.fixture(autouse=True)
def kept_journals(request: pytest.FixtureRequest) -> Iterator[None]:
    if "world" not in request.fixturenames:
        yield
        return
    world = request.getfixturevalue("world")
    folder = Path(request.config.getoption("--keep-journals"))
    node: Any = request.node
    keeper = Keeper(folder, request.config.getoption("--keep-build"), f"{node.path.stem}::{node.name}")
    keeper.watch(world)
    yield
    keeper.keep(world.database, "at the end")
