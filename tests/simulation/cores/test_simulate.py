"""The simulator as users have it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from penstock import Retry, pipeline, step
from penstock.errors import DefinitionError
from penstock.testing import AgentSpec, Fault, FaultKind, PromiseBroken, StepBehaviour, simulate, simulation
from penstock.testing.invariants import Invariants, Violation

PAGE = Path(__file__).parents[3] / "docs" / "simulation.md"


@step(retry=Retry(max_attempts=3))
def extract(day: str) -> list[int]:
    raise AssertionError("user code is not called")


@step(queue="gpu")
def load(row: int) -> int:
    raise AssertionError("user code is not called")


@pipeline
def nightly(day: str) -> None:
    load.map(extract(day))


def test_steps_do_what_is_said_of_them() -> None:
    result = simulate(
        nightly,
        parameters={"day": "today"},
        behaviour={"extract": [StepBehaviour(error="Timeout"), StepBehaviour(output=[1, 2, 3])]},
        faults=[],
    )
    assert result.states == ("COMPLETED",)
    assert result.steps == {"extract": "COMPLETED", "load": "COMPLETED"}
    assert result.attempts == {"extract": 2, "load": 3}
    assert len(result.faults) == 1, "only that all is mended"


def test_a_function_says_it_too() -> None:
    def behave(attempt: Any) -> StepBehaviour:
        return StepBehaviour(output=[7]) if attempt.step == "extract" else StepBehaviour(error="app.Boom")

    result = simulate(nightly, parameters={"day": "today"}, behaviour=behave, faults=[], runs=2)
    assert result.states == ("FAILED", "FAILED")


def test_a_crash_costs_an_attempt_and_no_retry() -> None:
    result = simulate(
        nightly,
        parameters={"day": "today"},
        behaviour={"extract": StepBehaviour(seconds=10, output=[1])},
        faults=[Fault(2_000_000, FaultKind.AGENT_CRASH, 0, 1_000_000), Fault(2_000_000, FaultKind.AGENT_CRASH, 1, 1)],
        agents=[AgentSpec("a", queues=("default", "gpu")), AgentSpec("b", queues=("default", "gpu"))],
    )
    assert result.state == "COMPLETED"
    assert result.attempts["extract"] == 2
    assert sum("agent_crash" in fault for fault in result.faults) == 2


def test_several_coordinators_take_over_from_each_other() -> None:
    result = simulate(
        nightly,
        parameters={"day": "today"},
        behaviour={"extract": StepBehaviour(seconds=12, output=[1])},
        faults=[
            Fault(3_000_000, FaultKind.COORDINATOR_CRASH, 0, 20_000_000),
            Fault(9_000_000, FaultKind.HAND_OVER, 0, 1_000_000, 0.5),
        ],
        coordinators=3,
    )
    assert result.state == "COMPLETED"
    assert result.attempts["extract"] == 1, "what runs goes on"
    assert sum(" owns " in line for line in result.trace) == 3


def test_a_member_that_dies_leaves_its_runs_to_the_head() -> None:
    result = simulate(
        nightly,
        parameters={"day": "today"},
        behaviour={"extract": StepBehaviour(seconds=30, output=[1])},
        faults=[
            Fault(20_000_000, FaultKind.MEMBER_CRASH, 0, 3_000_000, 0.9),
            Fault(20_000_000, FaultKind.MEMBER_CRASH, 1, 3_000_000, 0.9),
        ],
        coordinators=3,
        join=True,
        runs=6,
        slots=6,
        chaos_seconds=25.0,
    )
    assert set(result.states) == {"COMPLETED"}
    assert result.attempts["extract"] == 6, "one for each run: what runs goes on"
    assert sum(line.endswith(" crashes ") for line in result.trace) > 1


def test_the_same_seed_is_the_same_schedule() -> None:
    first, again = (simulate(nightly, parameters={"day": "x"}, seed=7) for _ in range(2))
    assert first == again
    assert first.trace_hash != simulate(nightly, parameters={"day": "x"}, seed=8).trace_hash


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DefinitionError, match="day"):
        simulate(nightly)
    with pytest.raises(DefinitionError, match="there is no fault 'fire'"):
        simulate(nightly, parameters={"day": "x"}, faults=["fire"])


def test_a_broken_promise_is_told_as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a promise that nobody can keep: no agent ever crashes."""

    class Strict(Invariants):
        def agent_crashed(self, agent: Any) -> None:
            raise Violation("nobody_crashes", agent.name)

    monkeypatch.setattr(simulation, "Invariants", Strict)
    with pytest.raises(PromiseBroken) as raised:
        simulate(nightly, parameters={"day": "x"}, seed=3, faults=["agent_crash", "stream_break", "clock_jump"])
    assert raised.value.invariant == "nobody_crashes"
    script = raised.value.script
    assert len(re.findall(r"agent_crash of", script)) == 1
    assert "stream_break" not in script
    assert "1 load: step, after 0" not in script, "shrunk to what is needed"


def test_the_page_s_example_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = re.findall(r"```python\n# nightly_test.py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "nightly_test.py").write_text(source.replace("range(50)", "range(5)"))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("nightly_test").test_nightly_survives_everything()


def test_the_page_names_every_fault_and_promise() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for kind in FaultKind:
        assert f"`{kind.value}`" in text
    for name in re.findall(r'(?:_broken|Violation)\(\s*"(\w+)"', sources()):
        assert f"`{name}`" in text or name == "raises_nothing", name


def sources() -> str:
    folder = Path(simulation.__file__).parent
    return "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))


@pytest.mark.parametrize(
    ("arguments", "field", "remedy"),
    [
        ({"behaviour": {"extrakt": StepBehaviour()}}, "behaviour.extrakt", "did you mean 'extract'?"),
        ({"behaviour": {"extract": []}}, "behaviour.extract", "give StepBehaviour"),
        ({"behaviour": {"extract": "slow"}}, "behaviour.extract", "give StepBehaviour"),
        ({"agents": 0}, "agents", "give 1 or more"),
        ({"agents": []}, "agents", "give 1 or more"),
        ({"slots": 0}, "slots", "give 1 or more"),
        ({"runs": 0}, "runs", "give 1 or more"),
        ({"chaos_seconds": -1}, "chaos_seconds", "give 0 or more"),
        ({"coordinators": 0}, "coordinators", "give 1 or more"),
        ({"faults": ["hand_over"]}, "faults", "give coordinators=3"),
        ({"faults": ["member_crash"], "coordinators": 3}, "faults", "join=True"),
        ({"join": True}, "join", "give coordinators=3"),
        ({"faults": ["coordinator_replaced"], "coordinators": 3}, "faults", "leave `coordinators` out"),
    ],
)
def test_what_cannot_be_played_is_told_by_its_argument(arguments: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        simulate(nightly, parameters={"day": "today"}, **arguments)
    assert refused.value.field == field
    assert remedy in (refused.value.remedy or "")
