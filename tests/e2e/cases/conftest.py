"""One system with two agents for all cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.cases.raw_calls import RawChannel
from tests.e2e.system.conftest import client, system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.system.conftest import DevSystem

    from penstock.client.sync import SyncClient

__all__ = ["client", "raw", "system", "unchanged"]


@pytest.fixture(scope="module")
def raw(system: DevSystem) -> Iterator[RawChannel]:
    made = RawChannel(system.address)
    yield made
    made.close()


@pytest.fixture
def unchanged(client: SyncClient) -> Callable[[], None]:
    """Fails if a pipeline, a version or a run is there that was not there when the test began."""

    def listings() -> tuple[list[tuple[str, int]], list[str]]:
        pipelines = [(each.name, each.latest_version.number) for each in client.list_pipelines()]
        return pipelines, [each.id for each in client.list_runs()]

    before = listings()

    def check() -> None:
        assert listings() == before

    return check
