"""Maps over maps on the real system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.e2e.system import map_flows
from tests.e2e.system.conftest import until

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

    from penstock.client.sync import SyncClient

WAIT = 100.0


def states(client: SyncClient, run_id: str, step: str = "") -> dict[str, str]:
    return {
        each.display_name: run_pb2.StepRunState.Name(each.state).removeprefix("STEP_RUN_STATE_")
        for each in client.list_step_runs(run_id, step=step)
    }


def test_nested_maps_from_end_to_end(client: SyncClient, system: DevSystem) -> None:
    run = client.start(map_flows.tables_that_end_well, {"names": ["abcd", "xy", "flaky"]})
    ended = run.wait(WAIT)
    assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
    result: Any = run.result("total")
    loaded, letters, checked = result
    assert [[each["row"] for each in group] for group in loaded] == [
        ["abcd0", "abcd1"],
        [],
        ["flaky0", "flaky1", "flaky2"],
    ]
    assert [[each["place"] for each in group] for group in loaded] == [[[0, 0], [0, 1]], [], [[2, 0], [2, 1], [2, 2]]]
    assert letters[0][1] == [f"{one}@(0, 1, {at})" for at, one in enumerate("abcd1")]
    assert [len(group) for group in letters] == [2, 0, 3]
    assert checked == ["abcd@0", "xy@1", "flaky@2"]
    one: Any = run.result("load", (2, 1))
    assert one["row"] == "flaky1"
    assert run.result("letter", (2, 1, 0)) == "f@(2, 1, 0)"
    shown = system.penstock("get", run.id, "load[0][1]")
    assert "load[0][1]" in shown.stdout
    assert '"abcd1"' in shown.stdout
    assert system.penstock("logs", run.id, "load[0][1]", "--follow").stdout == "abcd1 at (0, 1)\n"
    wrong = system.penstock("get", run.id, "load[0]")
    assert wrong.returncode != 0
    assert "give 2 numbers" in wrong.stderr


def test_failures_and_skips_are_per_item(client: SyncClient) -> None:
    run = client.start(map_flows.tables, {"names": ["bad", "none", "abc"]})
    ended = run.wait(WAIT)
    # `load` cannot go into the list of a table that is not there.
    assert ended.state == run_pb2.RUN_STATE_FAILED
    assert ended.reason == (
        'step "load" failed: Map: cannot map over the output of "fetch[0]" (which is FAILED) at "rows": it is null, '
        "not a list"
    )
    assert states(client, run.id) == {
        "fetch": "COMPLETED",
        "check": "COMPLETED",
        "load": "FAILED",
        "letter": "UPSTREAM_FAILED",
        "total": "UPSTREAM_FAILED",
        "counted": "UPSTREAM_FAILED",
    }
    assert states(client, run.id, "check") == {"check[0]": "COMPLETED", "check[1]": "SKIPPED", "check[2]": "COMPLETED"}
    assert states(client, run.id, "load") == {
        "load[1][0]": "COMPLETED",
        "load[1][1]": "COMPLETED",
        "load[2][0]": "COMPLETED",
    }
    whole = client.get_step_run(run.id, "load").step_run
    assert whole.failure.reason == "Map"
    assert client.get_step_run(run.id, "fetch", 0).step_run.attempt_count == 2


def test_products_and_zips(client: SyncClient) -> None:
    run = client.start(map_flows.combinations, {"names": ["a", "b"], "numbers": [1, 2]})
    assert run.wait(WAIT).state == run_pb2.RUN_STATE_COMPLETED
    assert run.result("product") == [["a", 1], ["a", 2], ["b", 1], ["b", 2]]
    assert run.result("zip") == [["a", 1], ["b", 2]]
    assert run.result("none") == []
    uneven = client.start(map_flows.combinations, {"names": ["a", "b"], "numbers": [1, 2, 3]})
    assert '"left" has 2, "right" has 3' in uneven.wait(WAIT).reason


def test_three_maps_of_two_thousand_items_go_item_by_item(client: SyncClient, tmp_path: Path) -> None:
    """The third step is done with all items but the one that the first one still works on."""
    count, gate = 2_000, tmp_path / "gate"
    run = client.start(map_flows.wide, {"items": list(range(count)), "gate": str(gate)})

    def all_but_one() -> bool:
        return client.get_step_run(run.id, "third").step_run.item_counts.completed == count - 1

    until(all_but_one, 170.0)
    gate.touch()
    ended = run.wait(100.0)
    assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
    assert run.result("third") == [value + 3 for value in range(count)]


def test_maps_survive_the_death_of_the_coordinator(mortal_system: DevSystem) -> None:
    """What is gone along with, and the lists of nested maps, are found again in the journal and in the database."""
    names = [f"table{number}" for number in range(60)]
    with mortal_system.client() as client:
        run = client.start(map_flows.tables_that_end_well, {"names": names})
        for done in (40, 200):

            def reached(wanted: int = done) -> bool:
                return client.get_run(run.id).step_counts.completed >= wanted

            until(reached, WAIT)
            mortal_system.kill("coordinator")
        ended = run.wait(120.0)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
        result: Any = run.result("total")
    loaded, letters, checked = result
    rows = [[f"{name}{at}" for at in range(len(name) - 2)] for name in names]
    assert [[each["row"] for each in group] for group in loaded] == rows
    assert [[[one[0] for one in word] for word in group] for group in letters] == [
        [list(row) for row in group] for group in rows
    ]
    assert checked == [f"{name}@{at}" for at, name in enumerate(names)]
