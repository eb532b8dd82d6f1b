"""Steps and pipelines in Python: what they become, and what they refuse."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from tests.unit.sdk import golden_pipelines

from penstock import errors, yaml_format
from penstock.authoring.commands import File, Stdout, command
from penstock.authoring.options import Retry
from penstock.authoring.pipelines import Pipeline, pipeline
from penstock.authoring.references import unmapped
from penstock.authoring.steps import Step, step
from penstock.cli.loading import load_pipeline
from penstock.v1 import pipeline_pb2

GOLDEN = Path(__file__).parent / "golden"


@step
def one(x: Any = 1) -> Any:
    """The docstring."""
    return x


@step
def two(a: int, b: int = 2) -> int:
    return a + b


@step
async def slow(x: int) -> int:
    return x + 1


def build(body: Any) -> pipeline_pb2.PipelineSpec:
    return Pipeline(body, {"name": "p"}).spec()


def test_the_specification_of_every_option_is_kept() -> None:
    """To renew the golden file, delete it and run the test twice; the difference is what to review."""
    golden = GOLDEN / "everything.yaml"
    text = golden_pipelines.everything.to_yaml()
    if not golden.exists():
        golden.write_text(text)
        pytest.fail(f"{golden} was written: review it")
    assert text == golden.read_text()
    assert yaml_format.load(text) == golden_pipelines.everything.spec()


def test_outside_a_pipeline_a_step_is_its_function() -> None:
    assert two(1, b=4) == 5
    assert asyncio.run(slow(1)) == 2
    assert one.__doc__ == "The docstring."
    assert one.__name__ == "one"
    assert inspect.signature(two) == inspect.signature(two.__wrapped__)
    assert two.options(retries=3, name="other")(1) == 3
    with pytest.raises(TypeError):
        two()  # type: ignore[call-arg]


def test_names_count_up_and_exact_names_are_kept() -> None:
    def body() -> None:
        one()
        one()
        one.options(name="one_3")()
        one()
        one.options(name="mine")()

    assert [each.name for each in build(body).steps] == ["one", "one_2", "one_3", "one_4", "mine"]


def test_an_exact_name_twice_is_refused() -> None:
    def body() -> None:
        one.options(name="x")()
        one.options(name="x")()

    with pytest.raises(errors.DefinitionError, match=r"steps\.x: two steps have this name"):
        build(body)


def test_the_body_runs_once_and_lazily() -> None:
    calls = []

    def body() -> None:
        calls.append(1)
        one()

    built = Pipeline(body, {"name": "p"})
    assert not calls
    assert built.spec() == built.spec()
    assert calls == [1]
    assert built.spec("d" * 64).bundle_digest == "d" * 64
    assert built.spec().bundle_digest == ""


def test_an_option_of_a_call_replaces_that_of_the_decorator() -> None:
    base = step(retry=Retry(max_attempts=9, jitter=0.5), env={"A": "1"})(one.__wrapped__)

    def body() -> None:
        base()
        base.options(retries=1, env={"B": "2"}, timeout=3, priority=7)()
        base.options(retry=None)()

    first, second, third = build(body).steps
    assert (first.retry.max_attempts, first.retry.jitter) == (9, 0.5)
    assert (second.retry.max_attempts, second.retry.jitter) == (2, 0.5)
    assert dict(second.env) == {"B": "2"}
    assert second.timeouts.attempt.seconds == 3
    assert (first.priority, second.priority) == (0, 7)
    assert not third.HasField("retry")


def test_a_plain_function_of_a_module_is_named_by_its_place() -> None:
    spec = golden_pipelines.everything.spec()
    assert spec.steps[0].function.module == "tests.unit.sdk.golden_pipelines"


def refuse(body: Any, message: str, kind: type[errors.PenstockError] = errors.DefinitionError) -> None:
    with pytest.raises(kind) as caught:
        build(body)
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda n: bool(n), "cannot be true or false"),
        (lambda n: not n, "cannot be true or false"),
        (lambda n: len(n), "has no length"),
        (lambda n: list(n), "cannot be iterated over"),
        (lambda n: [*n], "cannot be iterated over"),
        (lambda n: 1 in n, "cannot be searched"),
        (lambda n: f"{n}", "cannot be made into text"),
        (lambda n: str(n), "cannot be made into text"),
        (lambda n: int(n), "cannot be made into a number"),
        (lambda n: range(n), "cannot be made into a number"),
        (lambda n: n + 1, "calculated with"),
        (lambda n: 1 + n, "calculated with"),
        (lambda n: -n, "calculated with"),
        (lambda n: n == 1, "cannot be compared"),
        (lambda n: n != 1, "compared"),
        (lambda n: n < 1, "compared"),
        (lambda n: n(), "cannot be called"),
        (lambda n: n >> 1, "later.after"),
        (lambda n: [n] << n, "later.after"),
    ],
)
def test_a_reference_has_no_value_while_the_pipeline_is_built(use: Any, message: str) -> None:
    def of_parameter(n: Any) -> None:
        one(n)
        use(n)

    def of_output() -> None:
        use(one())

    refuse(of_parameter, message, errors.ReferenceUseError)
    refuse(of_output, message, errors.ReferenceUseError)


@pytest.mark.parametrize(
    ("what", "word", "remedy"),
    [
        (one, "submit", "in the body of a @pipeline"),
        (one, "with_options", "(use options)"),
        (pipeline(name="p")(lambda: one()), "serve", "penstock run FILE"),
    ],
)
def test_the_words_of_other_systems_lead_to_ours(what: Any, word: str, remedy: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(what, word)
    assert remedy in str(caught.value)
    assert not hasattr(one, "nothing_of_the_kind")


def test_references_know_where_they_may_go() -> None:
    other: list[Any] = []

    def first() -> None:
        other.append(one())

    build(first)
    refuse(lambda: one(other[0]), "belongs to the pipeline 'p'")
    refuse(lambda: one.options(depends_on=other)(), "belongs to the pipeline 'p'")
    refuse(lambda: one([1, one()]), "stands inside a list")
    refuse(lambda: one({"a": {"b": one()}}), "stands inside a dict")
    refuse(lambda: one(one()[-1]), "-1 leads nowhere")
    refuse(lambda: one(one()[1.5]), "1.5 leads nowhere")
    refuse(lambda n: one(n["a"]), "is passed whole")
    refuse(lambda: one.options(depends_on="onne")(), "there is no step 'onne' (did you mean 'one'?)")
    refuse(lambda: one.options(depends_on=3)(), "3 names no step")
    refuse(lambda: one().after(7), "7 names no step")


def test_an_earlier_name_may_be_a_later_step() -> None:
    def body() -> None:
        one.options(depends_on="two")()
        two(1)

    assert list(build(body).steps[0].depends_on) == ["two"]


def test_constants_are_json() -> None:
    class Odd:
        pass

    refuse(lambda: one(Odd()), "one.x: Odd is no JSON value")
    refuse(lambda: one({1, 2}), "set is no JSON value")
    refuse(lambda: one({1: 2}), "the key 1 is no text")
    refuse(lambda: one(float("inf")), "inf is no JSON number")
    refuse(lambda: one([[2**53 + 1]]), "one.x[0][0]: 9007199254740993 is beyond 2^53")
    refuse(lambda: one(-(10**5000)), "one.x: a number of 16,610 bits is beyond 2^53")
    refuse(lambda: one("\ud800"), "not valid Unicode")

    def body() -> None:
        one((1, {"a": None}))

    value = build(body).steps[0].inputs["x"].value
    assert value.list_value.values[0].number_value == 1
    assert value.list_value.values[1].struct_value.fields["a"].HasField("null_value")


def test_calls_are_checked_against_the_signature() -> None:
    @step
    def positional(a: int, /) -> None: ...

    @step
    def several(*values: int) -> None: ...

    refuse(lambda: cast("Any", two)(), "missing a required argument: 'a' (call it as two(a: 'int', b: 'int' = 2)")
    refuse(lambda: cast("Any", two)(1, c=3), "unexpected keyword argument 'c'")
    refuse(lambda: positional(1), "can only be given by position")
    refuse(lambda: several(1), "can only be given by position")
    refuse(lambda: two(unmapped(1)), "unmapped(...) is given to a plain call")


def test_what_an_agent_cannot_import_is_refused() -> None:
    @step
    def inner() -> None: ...

    refuse(lambda: inner(), "is defined inside a function")
    refuse(lambda: Step(lambda: None, one.penstock_options)(), "is defined inside a function")


def test_maps() -> None:
    def body(items: list[int]) -> None:
        two.map(items)
        two.map(items, b=3)
        two.map(a=unmapped(items), b=one())
        two.map([1, 2])
        one.map(
            one()["rows"],
        )

    spec = build(body)
    mapped = {each.name: each for each in spec.steps}
    assert mapped["two"].map.parameter == "items"
    assert mapped["two"].inputs["a"].HasField("item")
    assert mapped["two_2"].inputs["b"].value.number_value == 3
    assert mapped["two_3"].inputs["a"].parameter == "items"
    assert mapped["two_3"].map.step.step == "one"
    assert [each.number_value for each in mapped["two_4"].map.values.values] == [1, 2]
    assert list(mapped["one_3"].map.step.path) == ["rows"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "retries: -1 is out of bounds"),
        ({"retries": True}, "retries: True is out of bounds"),
        ({"retries": 1, "retry": Retry()}, "both retries and retry are given"),
        ({"retry": 3}, "3 is no retry policy"),
        ({"timeout": 0}, "timeout: the timeout is zero"),
        ({"timeout": -1}, "timeout: a span of time must not be negative"),
        ({"timeout": float("nan")}, "timeout: nan is no span of time"),
        ({"timeout": "5 minutes"}, "timeout: '5 minutes' is no span of time"),
        ({"memory": "2 gigs"}, "memory: '2 gigs' is no size"),
        ({"memory": 1.5}, "memory: 1.5 is no size"),
        ({"cpu": "2"}, "cpu: '2' is no amount"),
        ({"cpu": float("inf")}, "cpu: inf is no amount"),
        ({"cpu": 10**400}, "is no amount"),
        ({"gpu": -1}, "gpu: -1 is no amount"),
        ({"resources": {"tpu": None}}, "resources.tpu: None is no amount"),
        ({"env": {"1A": "x"}}, "'1A' is no name of a variable"),
        ({"env": {"PENSTOCK_X": "x"}}, "'PENSTOCK_X' is no name of a variable"),
        ({"env": {"A": 1}}, "env.A: 1 is no text"),
        ({"labels": ["a"]}, "labels: ['a'] is no mapping"),
        ({"trigger_rule": "all_sucess"}, "did you mean 'all_success'?"),
        ({"allow_failure": 1}, "allow_failure: 1 is no bool"),
        ({"name": "a b"}, "'a b' is no valid name"),
        ({"name": "../x"}, "is no valid name"),
        ({"queue": ""}, "queue: '' is no valid name"),
        ({"when": True}, "when: True is no text"),
        ({"priority": 1_001}, "priority: 1001 is out of bounds (give a whole number from -1,000 to 1,000)"),
        ({"priority": 0.5}, "priority: 0.5 is out of bounds"),
        ({"retrys": 3}, "retrys: there is no such option (did you mean 'retry'?)"),
    ],
)
def test_options_are_checked_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.DefinitionError) as caught:
        step(**options)
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "retry.max_attempts: 0 is out of bounds"),
        ({"multiplier": 0.5}, "retry.multiplier: 0.5 is out of bounds"),
        ({"jitter": 2}, "retry.jitter: 2 is out of bounds"),
        ({"jitter": float("nan")}, "retry.jitter: nan is out of bounds"),
        ({"initial_backoff": "soon"}, "retry.initial_backoff: 'soon' is no span of time"),
        ({"retry_on": [int]}, "names no error"),
        ({"retry_on": ""}, "names no error"),
        ({"retry_on": 3}, "3 is no list"),
    ],
)
def test_retry_policies_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.DefinitionError, match=message.replace("(", r"\(")):
        Retry(**options)


def test_decorators_on_the_wrong_thing() -> None:
    for wrong in (lambda: step(one), lambda: step(3), lambda: step(int), lambda: pipeline(one), lambda: pipeline(3)):  # type: ignore[call-overload]
        with pytest.raises(errors.DefinitionError):
            wrong()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "is no valid name"),
        ({"timeout": 0}, "timeout: the timeout is zero"),
        ({"max_parallel": -1}, "max_parallel: -1 is out of bounds"),
        ({"labels": {"a": 1}}, "labels.a: 1 is no text"),
        ({"priority": -1_001}, "priority: -1001 is out of bounds"),
        ({"weight": 0}, "weight: 0 is out of bounds"),
        ({"weight": 100.5}, "weight: 100.5 is out of bounds"),
        ({"max_active_runs": -1}, "max_active_runs: -1 is out of bounds"),
        ({"max_active_runs": 100_001}, "max_active_runs: 100001 is out of bounds"),
        ({"concurrency": ""}, "concurrency: there is no key"),
        ({"concurrency": 3}, "concurrency: 3 is no limit on concurrency"),
        ({"defaults": {"when": "true"}}, "defaults.when: this option cannot be a default"),
        ({"retries": 1}, "retries: a pipeline has no such option"),
    ],
)
def test_options_of_a_pipeline_are_checked(options: Any, message: str) -> None:
    with pytest.raises(errors.DefinitionError, match=message):
        pipeline(**options)(two.__wrapped__)


def test_parameters_are_typed() -> None:
    def mistyped(n: int = "x") -> None: ...  # type: ignore[assignment]
    def null(n: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013  # the wrong default
    def optional(n: int | None = None) -> None: ...
    def literal(n: Literal["a"]) -> None: ...
    def custom(n: Path) -> None: ...
    def several(*n: int) -> None: ...
    def keywords(**n: int) -> None: ...
    def positional(n: int, /) -> None: ...
    def unknown(n: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for function, message in (
        (mistyped, "parameters.n.default: 'x' does not fit the type int"),
        (null, "only a parameter of type any can be null"),
        (optional, "is no type of a parameter"),
        (literal, "is no type of a parameter"),
        (custom, "the annotation Path is no type of a parameter"),
        (several, "any number of parameters"),
        (keywords, "any number of parameters"),
        (positional, "remove the '/'"),
        (unknown, "an annotation cannot be read"),
    ):
        with pytest.raises(errors.DefinitionError) as caught:
            pipeline(function)
        assert message in str(caught.value)


def test_pipelines_are_no_functions() -> None:
    inner = Pipeline(lambda: None, {"name": "inner"})
    with pytest.raises(errors.DefinitionError, match="is called as a function"):
        inner()
    refuse(lambda: None, "the pipeline has no steps")

    async def body() -> None:
        one()

    refuse(body, "the body of a pipeline is async")


def test_a_failing_body_leaves_no_pipeline_open() -> None:
    def body() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        build(body)
    assert one(5) == 5


def test_commands_are_checked() -> None:
    refuse(lambda: command("c"), "exactly one of argv and shell is needed")
    refuse(lambda: command("c", argv=["a"], shell="b"), "exactly one of argv and shell is needed")
    refuse(lambda: command("c", argv="echo hi"), "c.argv: 'echo hi' is no list (give a list of texts; a single text")
    refuse(lambda: command("c", argv=3), "c.argv: 3 is no list")  # type: ignore[arg-type]
    refuse(lambda: command("c", argv=["x"], success_exit_codes=3), "c.success_exit_codes: 3 is no list")  # type: ignore[arg-type]
    refuse(lambda: command("c", argv=["x"], inputs=3), "c.inputs: 3 is no dict")  # type: ignore[arg-type]
    refuse(lambda: command("c", argv=["x"], outputs=[1]), "c.outputs: [1] is no dict")  # type: ignore[arg-type]
    refuse(lambda: command("c", argv=["x"], input_files="x"), "c.input_files: 'x' is no dict")  # type: ignore[arg-type]
    refuse(lambda: command("c", argv=["a", 1]), "argv must be a list of texts")  # type: ignore[list-item]
    refuse(lambda: command("c", shell=["a"]), "the script must be a text")  # type: ignore[arg-type]
    refuse(lambda: command("c", shell="x", outputs={"o": "stdout"}), "is no output of a command")  # type: ignore[dict-item]
    refuse(lambda: command("c", shell="x", success_exit_codes=[300]), "300 is no exit code")
    refuse(lambda: command("a b", shell="x"), "'a b' is no valid name")
    with pytest.raises(errors.DefinitionError, match="outside a pipeline"):
        command("c", shell="x", outputs={"o": Stdout(), "f": File("f")})


def test_commands_alone_need_no_bundle() -> None:
    alone = Pipeline(lambda: command("c", shell="x"), {"name": "p"})
    assert alone.build_bundle() is None
    assert not alone.spec().bundle_digest


def test_the_package_is_light_until_it_is_used() -> None:
    program = (
        "import sys, time\n"
        "import asyncio, dataclasses, inspect, typing, pathlib, difflib, datetime  # what the standard library costs\n"
        "began = time.process_time()\n"
        "from penstock import step, pipeline\n"
        "@step(retries=2, timeout='5m')\n"
        "def a(): ...\n"
        "@pipeline\n"
        "def p(): a()\n"
        "took = time.process_time() - began\n"
        "heavy = {'grpc', 'google', 'yaml', 'pydantic', 'rich', 'click', 'pathspec'} & set(sys.modules)\n"
        "print(sorted(heavy), took < 0.3)\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert printed.stdout == "[] True\n"


def test_every_public_name_is_there() -> None:
    import penstock

    for name in penstock.__all__:
        assert getattr(penstock, name) is not None
    assert set(penstock.__all__) <= set(dir(penstock))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        penstock.nope  # noqa: B018


def test_the_first_example_of_the_documentation_builds(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "sdk.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "documented.py").write_text(example)
    spec = load_pipeline(str(tmp_path / "documented.py")).spec
    assert [each.name for each in spec.steps] == ["extract", "transform", "load"]
    assert spec.steps[1].inputs["source"].step.path == ["source"]
