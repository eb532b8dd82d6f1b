"""Steps in containers on a whole system: from the SDK to an engine's command line, which a stand-in speaks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.e2e.system import contained_flows
from tests.engines.engines import IMAGE, engine

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

    from penstock.client.sync import SyncClient


def test_a_pipeline_runs_in_an_image(own_system: Callable[..., DevSystem], tmp_path: Path) -> None:
    assert contained_flows.IMAGE == IMAGE
    with engine("stand-in", tmp_path) as made:
        system = own_system("--agents", "1", environment=made.env)
        run = system.client().start(contained_flows.contained, {"number": 21})
        assert run.wait(100.0).state == run_pb2.RUN_STATE_COMPLETED
        assert run.result("doubled") == {"number": 42, "step": "doubled"}
        assert run.result("told") == {"said": "42"}
        assert made.containers() == []
        created = [json.loads(call) for call in (tmp_path / "calls").read_text().splitlines()]
        assert sum(call[0] == "create" for call in created) == 2, "one step wanted none"


def test_where_no_agent_has_an_engine_it_is_said(system: DevSystem, client: SyncClient) -> None:
    run = client.start(contained_flows.unserved, {})
    try:
        said = system.penstock("explain", run.id).stdout
        assert "have no container engine (PENSTOCK_CONTAINER_ENGINE is none)" in said
        assert 'serves the queue "default" and has a container engine (Docker or Podman)' in said
    finally:
        run.cancel()
        run.wait(60.0)
