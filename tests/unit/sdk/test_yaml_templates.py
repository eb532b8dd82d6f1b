"""Templates in YAML: what `structure:` and `$[…]` stand for, and that what is put in is never read as anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import yaml_format
from penstock.errors import PenstockError
from penstock.v1 import pipeline_pb2
from penstock.wire_values import from_value
from penstock.yaml_format.documents import load_document
from penstock.yaml_format.expansion import MAX_STEPS

TABLES = """
name: daily
structure:
  tables: list
  check: {type: bool, default: true}
parameters:
  day: string
steps:
  begin: {command: [date]}
  load:
    for_each:
      table: $[tables]
    depends_on: [begin]
    command: [load, "$[table]"]
    inputs:
      day: ${params.day}
  verify:
    for_each:
      table: $[tables]
    as: check_$[table]
    if: $[check]
    command: verify $[table]
    inputs:
      rows: ${steps.load_$[table].output}
  end:
    depends_on: [verify]
    command: [echo, done]
"""


def load(text: str, **arguments: Any) -> pipeline_pb2.PipelineSpec:
    return yaml_format.load(text, arguments)


def one(members: str, **arguments: Any) -> list[pipeline_pb2.StepSpec]:
    """The steps of a template with the arguments given, whose step `a` has these members (one per line)."""
    declared = "".join(f"  {name}: any\n" for name in arguments)
    lines = "".join(f"    {line}\n" for line in members.splitlines())
    return list(load(f"name: p\nstructure:\n{declared}steps:\n  a:\n{lines}", **arguments).steps)


def refused(text: str, **arguments: Any) -> str:
    with pytest.raises(PenstockError) as caught:
        load(text, **arguments)
    return str(caught.value)


def refused_step(members: str, **arguments: Any) -> str:
    with pytest.raises(PenstockError) as caught:
        one(members, **arguments)
    return str(caught.value)


def upstream(spec: pipeline_pb2.PipelineSpec) -> dict[str, list[str]]:
    return {step.name: list(step.depends_on) for step in spec.steps}


def test_a_loop_makes_a_copy_per_member_and_its_name_stands_for_all() -> None:
    spec = load(TABLES, tables=["users", "orders"])
    assert upstream(spec) == {
        "begin": [],
        "load_users": ["begin"],
        "load_orders": ["begin"],
        "check_users": [],
        "check_orders": [],
        "end": ["check_users", "check_orders"],
    }
    assert list(spec.steps[1].command.argv) == ["load", "users"]
    assert spec.steps[3].inputs["rows"].step.step == "load_users"
    assert [each.name for each in spec.parameters] == ["day"]


def test_a_step_that_is_left_out_passes_on_what_it_waits_for() -> None:
    spec = load(TABLES, tables=["users", "orders"], check=False)
    assert upstream(spec)["end"] == ["load_users", "load_orders"]


def test_an_empty_loop_makes_no_step() -> None:
    assert upstream(load(TABLES, tables=[])) == {"begin": [], "end": []}


def test_the_specification_tells_what_it_was_made_from() -> None:
    use = load(TABLES, tables=["users"]).template
    assert use.name == "daily"
    assert {name: from_value(value) for name, value in use.arguments.items()} == {"tables": ["users"], "check": True}


def test_a_plain_document_knows_nothing_of_templates() -> None:
    plain = "name: p\nsteps:\n  a: {command: 'echo $[1 + 2] $$[x]'}\n"
    assert load(plain).steps[0].command.shell == "echo $[1 + 2] $$[x]"
    assert not load(plain).HasField("template")
    assert "x: the file is no template and takes no structure arguments" in refused(plain, x=1)
    assert "it is part of a template" in refused("name: p\nsteps:\n  a: {for_each: {x: [1]}, command: [x]}\n")


def test_expanding_again_gives_the_same_and_what_it_gives_is_a_plain_document() -> None:
    spec = load(TABLES, tables=["b", "a"])
    assert spec.SerializeToString(deterministic=True) == load(TABLES, tables=["b", "a"]).SerializeToString(
        deterministic=True
    )
    assert yaml_format.load(yaml_format.dump(spec)) == spec


def test_several_variables_are_a_product_and_a_number_counts() -> None:
    steps = one(
        "for_each: {table: $[tables], shard: 2}\ncommand: [x]".replace("$[tables]", '"$[tables]"'), tables=["b"]
    )
    assert [step.name for step in steps] == ["a_b_0", "a_b_1"]
    steps = one('for_each: {n: "$[count]"}\ncommand: [x, "$[n]", "n=$[n]"]\nmax: 1'.replace("\nmax: 1", ""), count=2)
    assert [list(step.command.argv) for step in steps] == [["x", "0", "n=0"], ["x", "1", "n=1"]]


def test_members_of_an_argument() -> None:
    tables = [{"name": "users", "keys": ["id", "day"]}]
    steps = one(
        'for_each: {t: "$[tables]"}\nas: load_$[t.name]\ncommand: [x, "$[t.keys[1]]"]\ninputs: {t: "$[t]"}',
        tables=tables,
    )
    assert steps[0].name == "load_users"
    assert list(steps[0].command.argv) == ["x", "day"]
    assert from_value(steps[0].inputs["t"].value) == tables[0]


def test_a_list_of_steps_and_lists_as_values() -> None:
    text = """
name: p
structure: {names: list, more: list}
steps:
- {name: a, for_each: {n: "$[names]"}, command: "$[more]"}
- {name: b, depends_on: [a], command: [x], success: 1}
""".replace(", success: 1", "")
    spec = load(text, names=["x", "y"], more=["echo", 3, True])
    assert upstream(spec) == {"a_x": [], "a_y": [], "b": ["a_x", "a_y"]}
    assert list(spec.steps[0].command.argv) == ["echo", "3", "true"]


def test_the_whole_pipeline_takes_arguments() -> None:
    spec = load(
        """
name: load-$[env]
structure: {env: string, width: {type: int, default: 3}}
labels: {env: $[env], "width/$[env]": $[width]}
max_parallel: $[width]
timeout: $[width]m
defaults: {queue: $[env], env: {WIDTH: $[width]}}
parameters:
  n: {type: int, default: $[width]}
steps:
  a: {command: [x], retry: {max_attempts: $[width]}}
""".replace("$[env]}", '"$[env]"}')
        .replace("$[width]}", '"$[width]"}')
        .replace("{env: $[env],", '{env: "$[env]",')
        .replace("{queue: $[env],", '{queue: "$[env]",'),
        env="test",
    )
    assert spec.name == "load-test"
    assert dict(spec.labels) == {"env": "test", "width/test": "3"}
    assert (spec.max_parallel, spec.timeout.seconds, spec.defaults.queue) == (3, 180, "test")
    assert spec.defaults.env["WIDTH"] == "3"
    assert spec.parameters[0].default.number_value == 3
    assert spec.steps[0].retry.max_attempts == 3


def test_the_long_form_of_a_command_and_a_pipeline() -> None:
    command = (
        "command: {argv: [x, '$[n]'], outputs: {'o$[n]': {file: '$[n]', format: json}}, success_exit_codes: ['$[n]']}"
    )
    found = one(command, n=3)[0].command
    assert (list(found.argv), found.outputs[0].name, found.outputs[0].file) == (["x", "3"], "o3", "3")
    assert list(found.success_exit_codes) == [3]
    action = one("pipeline: {name: 'load-$[n]', version_number: '$[n]'}", n=3)[0].pipeline
    assert (action.name, action.version_number) == ("load-3", 3)


def test_conditions() -> None:
    def names(condition: str, **arguments: Any) -> list[str]:
        text = "name: p\nstructure: {env: string, n: int, flag: bool}\nsteps:\n  z: {command: [x]}\n"
        text += f"  a:\n    {condition}\n    command: [x]\n"
        return [step.name for step in load(text, **{"env": "prod", "n": 1, "flag": True, **arguments}).steps]

    assert names("if: {env: prod}") == ["z", "a"]
    assert names("if: {env: prod, n: 2}") == ["z"]
    assert names("if: {env: [test, prod]}") == ["z", "a"]
    assert names("unless: {env: [test, prod]}") == ["z"]
    assert names("if: $[flag]", flag=False) == ["z"]
    assert names("if: {flag: 1}") == ["z"]
    assert names("unless: $[flag]") == ["z"]


def test_repeated_inputs() -> None:
    text = TABLES.replace(
        "    command: [echo, done]\n",
        """    command: [echo, done]
    inputs:
      rows:
        for_each: {table: "$[tables]"}
        from: ${steps.load_$[table].output}
      named:
        for_each: {n: 2}
        as: no_$[n]
        from: [1, "$[n]"]
""",
    )
    inputs = load(text, tables=["users", "orders"]).steps[-1].inputs
    assert set(inputs) == {"rows_users", "rows_orders", "no_0", "no_1"}
    assert inputs["rows_orders"].step.step == "load_orders"
    assert from_value(inputs["no_1"].value) == [1, 1]


def test_maps_take_lists_and_references() -> None:
    steps = one('map: "$[names]"\ncommand: [x]\ninputs: {n: "${item}"}', names=["${item}", {"step": 1}])
    assert [from_value(value) for value in steps[0].map.values.values] == ["${item}", {"step": 1}]
    assert one("map: ${params.$[name]}\ncommand: [x]", name="days")[0].map.parameter == "days"


def test_the_longer_forms_of_maps() -> None:
    text = TABLES.replace("depends_on: [verify]", "map: {FORM, max_parallel: '$[width]'}")
    text = text.replace("  check: {type", "  width: {type: int, default: 4}\n  check: {type")

    def last(form: str) -> pipeline_pb2.MapSpec:
        return load(text.replace("FORM", form), tables=["users"]).steps[-1].map

    assert last("over: '$[tables]'").max_parallel == 4
    assert [from_value(value) for value in last("over: '$[tables]'").values.values] == ["users"]
    assert last("joined: '${steps.load_$[tables[0]].output}'").step.step == "load_users"
    assert [each.name for each in last("zip: {a: '$[tables]', b: '${params.day}'}").lists] == ["a", "b"]
    for form in ("over", "joined", "nested"):
        with pytest.raises(PenstockError, match="'load' stands for all copies of a loop"):
            last(form + ": '${steps.load.output}'")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**50), 2**50)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["${params.x}", "$${", "$[x]", "{params.x}", "$", "}", "${", "$$["]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab", max_size=3) | st.sampled_from(["step", "value", "parameter", "item"]), inner)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(anything)
def test_what_is_put_into_an_input_arrives_as_it_is(value: Any) -> None:
    step = one('command: [x]\ninputs: {whole: "$[v]", inside: ["$[v]"], below: {value: {a: "$[v]"}}}', v=value)[0]
    assert from_value(step.inputs["whole"].value) == value
    assert from_value(step.inputs["inside"].value) == [value]
    assert from_value(step.inputs["below"].value) == {"a": value}


texts = st.text(st.sampled_from("${}[]ax.$"), max_size=6) | st.sampled_from(["${params.x}", "$${", "{item}"])


@settings(deadline=None, max_examples=150)
@given(texts, texts)
def test_what_is_put_into_a_text_never_becomes_an_expression(first: str, second: str) -> None:
    step = one('command: [x, "$[a]$[b]"]\ninputs: {t: "$[a]$[b]", u: "<$[a]"}', a=first, b=second)[0]
    assert step.inputs["t"].value.string_value == first + second
    assert step.inputs["u"].value.string_value == f"<{first}"
    assert step.command.argv[1] == first + second


@pytest.mark.parametrize("value", ["a}", 'a"]', "a${b", "\\"])
def test_a_text_does_not_break_out_of_an_expression(value: str) -> None:
    message = refused_step("command: [x]\ninputs: {t: '${steps[\"load_$[v]\"].output}'}", v=value)
    assert "cannot be put into an expression" in message


@pytest.mark.parametrize("value", ["a; rm -rf /", "$(date)", "a b", "'", "`x`", "a\nb"])
def test_a_text_does_not_break_out_of_a_script(value: str) -> None:
    message = refused_step('command: echo "$[v]"', v=value)
    assert "cannot be put into a shell script (pass it as an input and use $PENSTOCK_INPUT_<NAME>" in message
    assert one('command: {shell: "echo $[v]"}', v="a/b-1.csv")[0].command.shell == "echo a/b-1.csv"
    assert "shell script" in refused_step('command: {shell: "echo $[v]"}', v=value)


@pytest.mark.parametrize("value", ['" || true || "', "'", "\\"])
def test_a_text_does_not_break_out_of_a_condition(value: str) -> None:
    assert "cannot be put into a condition" in refused_step("command: [x]\nwhen: params.x == '$[v]'", v=value)
    assert one("command: [x]\nwhen: size(params.x) > $[v]", v=3)[0].when == "size(params.x) > 3"


@pytest.mark.parametrize("member", ["for_each: {n: []}", "if: '$[none]'"])
def test_a_template_of_which_nothing_is_left(member: str) -> None:
    text = f"name: p\nstructure: {{none: {{type: bool, default: false}}}}\nsteps:\n  a: {{command: [x], {member}}}\n"
    with pytest.raises(PenstockError, match=r"steps: nothing is left after the expansion .*for_each"):
        load_document(text)


def test_the_characters_themselves() -> None:
    step = one("command: [x, '$$[v]', '$[v]$$[']\ninputs: {t: '$$[v] $${x}'}", v="1")[0]
    assert list(step.command.argv) == ["x", "$[v]", "1$["]
    assert step.inputs["t"].value.string_value == "$[v] ${x}"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("command: [x, '$[w]']", "steps.a.command[1]: $[w] names no argument and no loop variable (known: v)"),
        ("command: [x, '$[v.x]']", "$[v.x] goes to 'x', which is not there (it is 'text')"),
        ("command: [x, '$[1 + 2]']", "'$[1 + 2]' is no substitution (write $[name], $[name.member]"),
        ("command: [x, '$[v']", "is no substitution"),
        ("command: [x]\nfor_each: [a]", "steps.a.for_each: for_each names no variable"),
        ("command: [x]\nfor_each: {n: -1}", "-1 is no list to loop over (give a list, or a count from 0 on)"),
        ("command: [x]\nfor_each: {n: $[v]}".replace("$[v]", '"$[v]"'), "'text' is no list to loop over"),
        ("command: [x]\nfor_each: {v: [1]}", "'v' is an argument or an outer variable (rename it)"),
        ("command: [x]\nfor_each: {n: [{}]}", "the copies cannot be named by their values (name them with `as:`)"),
        ("command: [x]\nfor_each: {n: 2}\nas: same", "two steps are named 'same' (give the copies names that differ"),
        ("command: [x]\nas: same", "`as` names the copies of a loop (add for_each, or leave it out)"),
        ("command: [x]\nfor_each: {n: [a b]}", "'a_a b' is no valid name"),
        ("command: [x]\nif: {w: 1}", "$[w] names no argument"),
        ("command: [x]\nif: $[v]", "'text' is neither true nor false"),
        ("command: [x]\ninputs: {t: {for_each: {n: 2}}}", "the repeated input has no `from`"),
        ("command: [x]\ninputs: {t: {for_each: {n: 2}, form: 1}}", "'form' has no place in a repeated input"),
        ("command: [x]\ninputs: {t_0: 1, t: {for_each: {n: 2}, from: 1}}", "two inputs are named 't_0'"),
        ("command: [x]\ninputs: {l: 'a$[l]'}", "$[l] names no argument"),
        ("command: [x]\ndepends_on: [[a]]", "a list is no text"),
        ("command: [x]\nif: false\ndepends_on: [{a: 1}]", "nothing is left"),
    ],
)
def test_steps_that_are_refused(members: str, message: str) -> None:
    found = refused_step(members, v="text")
    assert message in found
    assert found.startswith("line ")


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (TABLES, {}, "tables: the argument has no default and is not given (add --set tables=VALUE)"),
        (TABLES, {"tabels": []}, "tabels: the template has no such argument (did you mean 'tables'?)"),
        (TABLES, {"tables": "users"}, "tables: 'users' does not fit the type list (give a list)"),
        (TABLES, {"tables": ["a", "a"]}, "steps.load: two steps are named 'load_a'"),
        (TABLES.replace("as: check_$[table]", "as: load_$[table]"), {"tables": ["a"]}, "one of 'load' and one of 'ver"),
        (TABLES.replace("as: check_$[table]", "as: verify"), {"tables": ["a"]}, "the name of a loop and of a step"),
        (TABLES.replace("  load:", "  load_$[table]:"), {"tables": ["a"]}, "name the copies with `as:`"),
        (TABLES.replace("load_$[table].output", "load.output"), {"tables": ["a"]}, "all copies of a loop"),
        (TABLES.replace("tables: list", "tables: lists"), {"tables": ["a"]}, "structure.tables"),
        (TABLES.replace("tables: list", "tables: {}"), {"tables": ["a"]}, "the argument has no type"),
        (TABLES.replace("tables: list", "a-b: list"), {}, "'a-b' is no name of an argument"),
        (TABLES.replace("default: true", "default: 3"), {"tables": []}, "structure.check.default: 3 does not fit"),
        (TABLES + "template: {name: x}\n", {"tables": []}, "a template cannot say what it was made from"),
    ],
)
def test_templates_that_are_refused(text: str, arguments: dict[str, Any], message: str) -> None:
    assert message in refused(text, **arguments)


def test_a_reference_to_a_step_that_is_left_out_is_refused() -> None:
    text = TABLES.replace("depends_on: [verify]", "inputs: {n: '${steps.check_$[tables[0]].output}'}")
    assert load(text, tables=["a"]).steps[-1].inputs["n"].step.step == "check_a"
    assert "the step 'check_a' is left out by its condition" in refused(text, tables=["a"], check=False)


def test_an_error_of_an_expanded_step_names_the_line_of_its_template() -> None:
    found = refused(TABLES.replace("depends_on: [begin]", "retry: {max_attempt: 3}"), tables=["users"])
    assert found.startswith("line 13, column ")
    assert "steps.load_users.retry.max_attempt: there is no such field" in found


def test_texts_of_a_command_line_are_read_by_the_declared_type() -> None:
    document = load_document(TABLES, argument_texts={"tables": '["a", "b"]', "check": "false"})
    assert len(document.spec.steps) == 4
    with pytest.raises(PenstockError, match="tables: 'a,b' does not fit the type list"):
        load_document(TABLES, argument_texts={"tables": "a,b"})


def test_limits() -> None:
    text = "name: p\nstructure: {n: int}\nsteps:\n  a: {for_each: {i: '$[n]'}, command: [x]}\n"
    assert len(load(text, n=1_000).steps) == 1_000
    assert "100,001 copies are past the limit of 100,000" in refused(text, n=MAX_STEPS + 1)
    twice = text.replace("{i: '$[n]'}", "{i: '$[n]', k: '$[n]'}")
    assert "the loop makes more than 100,000 copies" in refused(twice, n=400)
    many = text + "  b: {for_each: {i: '$[n]', k: 100}, command: [x]}\n"
    assert "the template makes more than 100,000 steps" in refused(many, n=1_000)
    long = f"name: p\nstructure: {{n: int}}\nsteps:\n  a: {{for_each: {{i: '$[n]'}}, command: [{'x' * 40_000}]}}\n"
    assert "the template grows past 32.0 MiB" in refused(long, n=1_000)
