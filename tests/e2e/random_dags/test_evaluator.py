"""The evaluator on pipelines whose end is plain to people."""

from __future__ import annotations

from random import Random

import pytest
from tests.e2e.random_dags import generator
from tests.e2e.random_dags.behaving.behaving import produced
from tests.e2e.random_dags.dags import Behaviour, Dag, Map, Retry, Source, Step
from tests.e2e.random_dags.evaluator import predict
from tests.e2e.random_dags.predictions import Part, Prediction
from tests.e2e.random_dags.rules import RULES
from tests.e2e.random_dags.second_generation import runs_again

OK, FAILS = Behaviour(), Behaviour((("ValueError",),))
ROWS = Behaviour(gives="constant", constant={"n": 1, "rows": [1, 2]})


def dag(*steps: Step, **more: object) -> Dag:
    return Dag("d", steps, {"p": 3, "zero": 0, "days": [5, 6]}, **more)  # type: ignore[arg-type] # fields by name


def end(*steps: Step) -> Prediction:
    return predict(dag(*steps), {})


def states(prediction: Prediction) -> dict[str, str]:
    return {name: part.state for name, part in prediction.steps.items()}


def over(kind: str, *sources: Source, names: tuple[str, ...] = ()) -> Map:
    return Map(kind, sources, names)


def listed(*values: object) -> Source:
    return Source("value", value=list(values))


def test_a_failure_passes_on_and_a_skip_does_too() -> None:
    found = end(
        Step("bad", FAILS),
        Step("after", OK, depends_on=("bad",)),
        Step("not", OK, when=("compare", ">", ("parameter", "p"), ("literal", 9))),
        Step("after-not", OK, depends_on=("not",)),
        Step("report", OK, depends_on=("after", "after-not"), rule="all_done"),
    )
    assert states(found) == {
        "bad": "FAILED",
        "after": "UPSTREAM_FAILED",
        "not": "SKIPPED",
        "after-not": "SKIPPED",
        "report": "COMPLETED",
    }
    assert found.state == "FAILED"


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ("all_success", "UPSTREAM_FAILED"),
        ("all_failed", "SKIPPED"),
        ("all_done", "COMPLETED"),
        ("one_success", "COMPLETED"),
        ("one_failed", "COMPLETED"),
        ("one_done", "COMPLETED"),
        ("none_failed", "UPSTREAM_FAILED"),
        ("none_failed_min_one_success", "UPSTREAM_FAILED"),
        ("none_skipped", "SKIPPED"),
        ("all_skipped", "SKIPPED"),
        ("always", "COMPLETED"),
    ],
)
def test_every_rule_over_a_success_a_failure_and_a_skip(rule: str, state: str) -> None:
    false = ("compare", "==", ("literal", 1), ("literal", 2))
    upstream = (Step("good", OK), Step("bad", FAILS), Step("not", OK, when=false))
    found = end(*upstream, Step("last", OK, depends_on=("good", "bad", "not"), rule=rule))
    assert found.steps["last"].state == state


def test_an_allowed_failure_is_a_success_that_gives_null() -> None:
    found = end(
        Step("bad", FAILS, allow_failure=True),
        Step("last", Behaviour(gives="constant", constant=1), inputs={"x": Source("step", "bad")}),
    )
    assert states(found) == {"bad": "FAILED", "last": "COMPLETED"}
    assert found.state == "COMPLETED"


def test_attempts_are_counted_and_filters_hold() -> None:
    late = Behaviour((("KeyError", "KeyError", "ok"),))
    found = end(
        Step("enough", late, retry=Retry(3)),
        Step("too-few", late, retry=Retry(2)),
        Step("never", late, retry=Retry(3, never_retry_on=("LookupError",))),
        Step("other", late, retry=Retry(3, retry_on=("ValueError",))),
    )
    told = {name: (part.state, part.attempts) for name, part in found.steps.items()}
    assert told == {
        "enough": ("COMPLETED", 3),
        "too-few": ("FAILED", 2),
        "never": ("FAILED", 1),
        "other": ("FAILED", 1),
    }


def test_a_condition_that_cannot_be_evaluated_fails_the_step_unless_the_other_part_decides() -> None:
    broken = ("compare", "==", ("quotient", 1, ("parameter", "zero")), ("literal", 1))
    true = ("compare", "==", ("parameter", "p"), ("literal", 3))
    found = end(Step("bad", OK, when=broken), Step("good", OK, when=("or", broken, true)))
    assert states(found) == {"bad": "FAILED", "good": "COMPLETED"}
    assert found.steps["bad"].reason == "Condition"


def test_maps_item_by_item_nested_joined_and_empty() -> None:
    item = {"x": Source("item")}
    found = end(
        Step(
            "a",
            Behaviour((("ok",), ("ValueError",)), "constant", {"rows": [1, 2]}),
            item,
            map=over("list", listed(1, 2)),
        ),
        Step("b", OK, map=over("follow", Source("step", "a"))),
        Step("c", OK, map=over("nested", Source("step", "a", ("rows",))), rule="none_skipped"),
        Step("d", OK, map=over("joined", Source("step", "a")), rule="all_done"),
        Step("e", OK, map=over("list", listed())),
        Step("f", OK, map=over("follow", Source("step", "e"))),
    )
    assert states(found) == {
        "a": "FAILED",
        "b": "UPSTREAM_FAILED",
        "c": "FAILED",
        "d": "COMPLETED",
        "e": "COMPLETED",
        "f": "COMPLETED",
    }
    assert [found.steps["b"].at((at,)).state for at in range(2)] == ["COMPLETED", "UPSTREAM_FAILED"]  # type: ignore[union-attr] # it is there
    assert sorted(found.steps["c"].items) == [(0, 0), (0, 1)]
    assert found.steps["d"].parts is not None
    assert len(found.steps["d"].parts) == 2
    assert found.steps["e"].value == []


def test_products_and_lists_side_by_side() -> None:
    pair = (listed(1, 2), listed("a", "b", "c"))
    given = {"x": Source("item")}
    found = end(
        Step("product", Behaviour(gives="digest"), given, map=over("product", *pair, names=("l", "r"))),
        Step("zip", OK, given, map=over("zip", *pair, names=("l", "r"))),
    )
    product = found.steps["product"]
    assert len(product.items) == 6
    assert product.items[4,].output == produced("digest", None, {"x": {"l": 2, "r": "b"}})
    assert (found.steps["zip"].state, found.steps["zip"].reason) == ("FAILED", "Map")


def test_the_output_of_a_child_comes_up_and_its_failure_does() -> None:
    child = Dag("child", (Step("a", Behaviour(gives="constant", constant=7)),), {"p": 0}, Source("step", "a"))
    bad = Dag("bad", (Step("a", FAILS),), {})
    parent = dag(Step("x", "child"), Step("y", "bad", retry=Retry(2)), output=Source("step", "x"))
    found = predict(parent, {"child": child, "bad": bad})
    assert found.steps["x"].output == 7
    assert (found.steps["y"].state, found.steps["y"].attempts) == ("FAILED", 2)
    assert predict(dag(Step("x", "child"), output=Source("step", "x")), {"child": child}).output == 7


def test_a_retry_resets_what_failed_and_what_that_kept_from_running() -> None:
    once = Behaviour((("ValueError", "ok"),))
    pipeline = dag(
        Step("good", OK),
        Step("bad", once, depends_on=("good",)),
        Step("after", OK, depends_on=("bad",)),
        Step("reporter", OK, depends_on=("bad",), rule="one_failed"),
        Step("items", Behaviour((("ok",), ("ValueError", "ok"))), map=over("list", listed(1, 2))),
        Step("cleanup", OK, cleanup=True, rule="all_done"),
    )
    former = predict(pipeline, {})
    again = runs_again(pipeline, former)
    assert again == {"bad": None, "after": None, "items": [(1,)], "cleanup": None}
    found = predict(pipeline, {}, None, former, again)
    assert found.state == "COMPLETED"
    assert set(states(found).values()) == {"COMPLETED"}
    attempts = {name: part.attempts for name, part in found.steps.items() if part.parts is None}
    assert attempts == {"good": 1, "bad": 2, "after": 1, "reporter": 1, "cleanup": 2}
    assert [item.attempts for item in found.steps["items"].items.values()] == [1, 2]


def test_the_generator_makes_everything_that_it_is_to_make() -> None:
    kinds: set[str] = set()
    found: set[str] = set()
    for seed in range(300):
        random = Random(seed)
        children = generator.children(random, "c")
        made = generator.dag(random, "d", list(children))
        kinds |= {made.fate}
        prediction = predict(made, children)
        for step in made.steps:
            kinds |= {step.rule, step.map.kind if step.map else "", "cleanup" if step.cleanup else ""}
            kinds |= {"child"} if isinstance(step.action, str) else {"command"} if step.action.command else set()
            found |= words(prediction.steps[step.name])
    assert kinds >= {*generator.FATES, *RULES, "list", "follow", "joined", "nested", "product", "zip"}
    assert kinds >= {"cleanup", "child", "command"}
    assert found >= {"COMPLETED", "FAILED", "SKIPPED", "UPSTREAM_FAILED"}
    assert found >= {"UserError", "Crash", "Timeout", "ExitCode", "Condition", "Map", "Input", "SubPipeline"}


def words(part: Part) -> set[str]:
    return {part.state, part.reason, *(word for item in part.items.values() for word in (item.state, item.reason))}


def test_the_same_seed_makes_the_same_pipeline() -> None:
    assert generator.dag(Random(5), "d", ()) == generator.dag(Random(5), "d", ())
