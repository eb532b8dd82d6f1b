"""What `penstock health` shows of a whole system."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.system.conftest import DevSystem


def test_a_healthy_system_says_so_to_people_programs_and_probes(system: DevSystem) -> None:
    shown = system.penstock("health").stdout
    assert "is ready" in shown
    assert "runs that wait to begin" in shown
    assert "postgresql" in shown
    assert "closed" in shown

    told: dict[str, Any] = json.loads(system.penstock("health", "--json").stdout)
    assert told["ready"] is True
    assert told["load"]["maxBacklog"] == "100000"
    assert {each["name"]: each["state"] for each in told["dependencies"]} == {
        "postgresql": "DEPENDENCY_STATE_CLOSED",
        "journal": "DEPENDENCY_STATE_CLOSED",
        "artifacts": "DEPENDENCY_STATE_CLOSED",
    }
    assert {share["name"] for share in told["dependencies"][0]["shares"]} == {"reading", "background work", "the cache"}

    with urllib.request.urlopen(f"http://{system.state['http_address']}/readyz", timeout=60) as answer:
        probed = json.load(answer)
    assert (probed["status"], probed["load"]["max_backlog"]) == ("ready", 100_000)
