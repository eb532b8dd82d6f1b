"""YAML pipelines: what is read, what is refused and how, and that writing is the inverse of reading."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import yaml_format
from penstock.errors import YamlError
from penstock.json_values import Json
from penstock.v1 import pipeline_pb2
from penstock.wire_values import from_value, to_list_value, to_value
from penstock.yaml_format.reading import read_yaml

REPOSITORY = Path(__file__).parents[3]

HEAD = "name: p\nsteps:\n  a:\n    command: [echo, hi]\n"


def load(text: str) -> pipeline_pb2.PipelineSpec:
    return yaml_format.load(text)


def step(text: str) -> pipeline_pb2.StepSpec:
    """The step `a` with the members of `text` (one per line)."""
    return load(HEAD + "".join(f"    {line}\n" for line in text.splitlines())).steps[0]


def refused(text: str) -> str:
    with pytest.raises(YamlError) as caught:
        load(text)
    return str(caught.value)


def refused_step(text: str) -> str:
    return refused(HEAD + "".join(f"    {line}\n" for line in text.splitlines()))


def test_the_example() -> None:
    spec = load((REPOSITORY / "examples" / "chain.yaml").read_text())
    assert spec.parameters[0].type == pipeline_pb2.PARAMETER_TYPE_INT
    assert [each.name for each in spec.steps] == ["add", "multiply", "subtract"]
    reference = spec.steps[1].inputs["number"].step
    assert (reference.step, list(reference.path)) == ("add", ["number"])
    assert yaml_format.load(yaml_format.dump(spec)) == spec


def test_long_and_short_forms_mean_the_same() -> None:
    short = """
name: p
parameters:
  n: int
  m: {type: ANY, default: null}
steps:
  a:
    function: pkg.mod:Class.method
    inputs: {n: "${params.n}", item: "${item.key[0]}"}
    map: "${params.m}"
  b:
    command: [echo, hi]
    inputs:
      rows: ${steps.a.output}
      cell: ${steps.a.output.rows[0]["a b"]}
      three: 3
      text: $${HOME}
    triggerRule: All-Done
    timeouts: {attempt: 90}
    resources: {memory: 2GiB}
  c:
    command: "exit 3"
    map: [1, 2]
"""
    long = """
name: p
parameters:
  - {name: n, type: PARAMETER_TYPE_INT}
  - {name: m, type: any, default: null}
steps:
  - name: a
    function: {module: pkg.mod, qualname: Class.method}
    inputs: {n: {parameter: n}, item: {item: {path: [key, "0"]}}}
    map: {parameter: m}
  - name: b
    command: {argv: [echo, hi]}
    inputs:
      rows: {step: a}
      cell: {step: {step: a, path: [rows, "0", a b]}}
      three: {value: 3}
      text: {value: "${HOME}"}
    trigger_rule: TRIGGER_RULE_ALL_DONE
    timeouts: {attempt: 1m30s}
    resources: {memory_bytes: 2147483648}
  - name: c
    command: {shell: "exit 3"}
    map: {values: [1, 2]}
"""
    assert load(short) == load(long)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("90", 90),
        ("0.5", 0.5),
        ('"90"', 90),
    ],
)
def test_spans_of_time(text: str, seconds: float) -> None:
    assert step(f"timeouts: {{attempt: {text}}}").timeouts.attempt.ToTimedelta() == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("1.10", 1.1),
        ("0o17", 15),
        ("0x1f", 31),
        ("010", 10),
        ("1_000", "1_000"),
        ("1e3", 1000),
        ("-.5", -0.5),
        ("'.nan'", ".nan"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'3'", "3"),
        ("[1, {a: [null]}]", [1, {"a": [None]}]),
        ("{a: 1, path: [x]}", {"a": 1, "path": ["x"]}),
        ("{value: {step: 3}}", {"step": 3}),
        ("$${x} $$", "${x} $$"),
        ("'{value: 3}'", "{value: 3}"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read = from_value(step("inputs: {}\n".replace("{}", "") + f"  x: {text}").inputs["x"].value)
    assert read == value
    assert type(read) is type(value)


def test_a_bundle_is_the_folder_of_the_file_if_a_function_needs_it() -> None:
    functions = "name: p\nsteps: {a: {function: 'm:f'}}"
    assert yaml_format.load_document(functions).bundle == "."
    assert yaml_format.load_document(f"bundle: src\n{functions}").bundle == "src"
    assert yaml_format.load_document(f"bundle_digest: abc\n{functions}").bundle is None
    assert yaml_format.load_document(HEAD).bundle is None
    assert "line 1, column 1: bundle: the bundle is no folder" in refused(f"bundle: 3\n{functions}")


def test_nothing_said_is_nothing_said() -> None:
    assert step("retry:\nlabels:\nwhen:") == load(HEAD).steps[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the document is empty"),
        ("# only a comment", "the document is empty"),
        ("[1]", "the document is no object (write at least `name:` and `steps:`)"),
        ("just text", "the document is no object"),
        ("steps: {a: {command: [x]}}", "name: the field is missing"),
        ("name: p", "steps: the field is missing"),
        ("name: p\nsteps: {}", "steps: the field is missing"),
        ("name: p\nsteps: [\n", "line 3, column 1: "),
        ("name: p\n\tsteps: {}", "line 2, column 1: while scanning"),
        ("name: 'p", "line 1, column 9: while scanning a quoted scalar found unexpected end of stream"),
        ("name: p\n---\nname: q", "there are several documents (one file holds one pipeline)"),
        ("name: p\nname: q", "line 2, column 1: name: the key 'name' is given twice (remove one of them)"),
        (
            "name: p\nsteps:\n  a:\n    when: a\n    when: b",
            "line 5, column 5: steps.a.when: the key 'when' is given twice",
        ),
        ("nmae: p", "line 1, column 1: nmae: there is no such field (did you mean 'name'?)"),
        (
            "name: p\nzzz: 1",
            "zzz: there is no such field (known: allow_pickle, budget, bundle, bundle_digest, concurrency,",
        ),
        ("name: 3\nsteps: {}", "line 1, column 1: name: 3 is no text (put it in quotes)"),
        ("name: [p]\nsteps: {}", "name: a list is no text"),
        ("name: !!python/object:os.system p", "the tag 'tag:yaml.org,2002:python/object:os.system' is not allowed"),
        ("name: !custom p", "the tag '!custom' is not allowed"),
        ("name: !!binary aGk=", "is not allowed"),
        ("{[a]: b}", "a key is no text"),
        ("1: x", "a key is no text (put it in quotes)"),
        ("a: &x {b: 1}\n<<: *x", "merge keys (<<) are not read"),
        ("a: &x [*x]", "line 1, column 4: a[0]: an alias stands inside its own anchor"),
        ("a: *nowhere", "found undefined alias"),
        ("a: b\nc: \x00", "line 2, column 4: the text is no YAML: it has the character U+0000 (remove it"),
        ("name: p\nsteps: " + "[" * 100_000, "line 2, column 108: the document is nested deeper than 100"),
        ("name: p\nsteps: " + "{a: " * 100_000, "nested deeper than 100"),
        ("- " * 100_000 + "a", "nested deeper than 100"),
        ("a: &x " + "x" * 2**20 + "\nb: [" + "*x, " * 40 + "]", "b[32]: aliases repeat more than 32.0 MiB"),
        ("name: p\nweight: 1e400\nsteps: {a: {}}", "weight: inf is out of range"),
        ("name: p\nsteps: " + "[" * 200 + "]" * 200, "nested deeper than 100"),
        ("name: p\nsteps: 3", "steps: 3 is no list"),
        ("name: p\nsteps: {a: 3}", "steps.a: 3 stands where an object is needed (give an object with name, "),
        ("name: p\nsteps: {a: {name: b}}", "steps.a: the name is also given as 'b' (leave out `name`)"),
        ("name: p\nparameters: {n: integer}", "parameters.n.type: 'integer' is not known (did you mean 'int'?)"),
        ("name: p\nparameters: [{name: n, type: 3}]", "parameters[0].type: 3 is not known"),
        ("name: p\nmax_parallel: lots", "max_parallel: 'lots' is no whole number"),
        ("name: p\nmax_parallel: 1.5", "max_parallel: 1.5 is no whole number"),
        (
            "name: p\nmax_parallel: 99999999999\nsteps: {a: {}}",
            "max_parallel: 99999999999 is out of range (it has at most 31 bits)",
        ),
        ("name: p\nfail_fast: yes", "fail_fast: 'yes' is no bool (write true or false)"),
        ("name: p\ntimeout: soon", "timeout: 'soon' is no span of time (write seconds as a number,"),
        ("name: p\ntimeout: -1", "timeout: a span of time must not be negative"),
        ("name: p\nlabels: [a]", "labels: a list is no object (write `name: value` lines)"),
        ("name: p\nlabels: {a: 1}", "labels.a: 1 is no text (put it in quotes)"),
        ("name: p\nlabels: {a: true}", "labels.a: true is no text (put it in quotes)"),
        ("name: p\ndefaults: {env: {A: 080}}", "defaults.env.A: 80 is no text"),
    ],
)
def test_documents_that_are_refused(text: str, message: str) -> None:
    assert message in refused(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "trigger_rule: all_sucess",
            "line 5, column 5: steps.a.trigger_rule: 'all_sucess' is not known (did you mean 'all_success'?)",
        ),
        (
            "retry: {max_attempt: 3}",
            "line 5, column 13: steps.a.retry.max_attempt: there is no such field (did you mean 'max_attempts'?)",
        ),
        ("retry: 3", "steps.a.retry: 3 stands where an object is needed (give an object with max_attempts,"),
        ("retry: {max_attempts: true}", "steps.a.retry.max_attempts: true is no whole number"),
        ("retry: {max_attempts: 3, maxAttempts: 3}", "steps.a.retry.maxAttempts: the field is given twice"),
        ("retry: {jitter: high}", "steps.a.retry.jitter: 'high' is no number"),
        ("retry: {retry_on: ValueError}", "steps.a.retry.retry_on: 'ValueError' is no list"),
        ("resources: {memory: lots}", "steps.a.resources.memory: 'lots' is no size (write bytes as a whole number,"),
        ("resources: {memory: 1, memory_bytes: 2}", "steps.a.resources.memory_bytes: the field is given twice"),
        ("function: m:f", "steps.a: function and command are both given (give one of them)"),
        ("inputs: {x: {parameter: n, step: a}}", "steps.a.inputs.x: the object mixes a reference with other members"),
        ("inputs: {x: {step: a, rate: 3}}", "(write `value:` in front of a constant object,"),
        ("inputs: {x: {parameter: 3}}", "steps.a.inputs.x.parameter: 3 is no text"),
        ("inputs: {x: {step: a, path: rows}}", "steps.a.inputs.x.step.path: 'rows' is no list"),
        ("inputs: {x: 'a ${params.n} b'}", "holds an expression and something else (an expression is the whole value"),
        ("inputs: {x: '${params.n}${params.m}'}", "holds an expression and something else"),
        ("inputs: {x: ['${params.n}']}", "steps.a.inputs.x[0]: '${params.n}' stands inside a constant"),
        ("inputs: {x: '${params.n.rows}'}", "goes into the parameter n (pass ${params.n} whole"),
        ("inputs: {x: '${steps.a}'}", "${steps.a} is no expression (write ${params.NAME}, ${steps.NAME.output},"),
        ("inputs: {x: '${steps.a.result}'}", "is no expression"),
        ("inputs: {x: '${n}'}", "${n} is no expression"),
        ("inputs: {x: '${}'}", "${} is no expression"),
        ("inputs: {x: '${params.n'}", "holds an expression and something else"),
        ("inputs: {x: ${params.n}}", "inside {…} and […] put an expression in quotes"),
        ("inputs: {x: .nan}", "steps.a.inputs.x: .nan is no JSON number (write a number, or put it in quotes"),
        ("inputs: {x: " + "[" * 29 + "]" * 29 + "}", ": the value is nested deeper than 28 (make it flatter)"),
        ("inputs: {x: 9007199254740993}", "steps.a.inputs.x: 9007199254740993 is beyond 2^53"),
        ("inputs: {x: [1, 9007199254740993]}", "steps.a.inputs.x[1]: 9007199254740993 is beyond 2^53"),
        ("inputs: {x: " + "9" * 5000 + "}", "steps.a.inputs.x: the number is too long"),
        ("inputs: {x: 0x" + "f" * 5000 + "}", "steps.a.inputs.x: the number is too long"),
        ("inputs: {x: 0o" + "7" * 5000 + "}", "steps.a.inputs.x: the number is too long"),
        ("inputs: {x: 0x" + "f" * 2500 + "}", "steps.a.inputs.x: a number of 10,000 bits is beyond 2^53"),
        ("inputs: {x: 1e999}", "inf is no JSON number"),
        ("map: 3", "steps.a.map: 3 is no list to map over"),
        ("map: '${item}'", "'${item}' is no list to map over"),
        ("map: some text", "'some text' is no list to map over"),
        ("map: {parameter: n, step: {step: a}}", "steps.a.map: parameter and step are both given"),
        ("when: true", "steps.a.when: true is no text (put it in quotes)"),
        ("depends_on: b", "steps.a.depends_on: 'b' is no list"),
        ("timeouts: {attempt: 1 day}", "steps.a.timeouts.attempt: '1 day' is no span of time"),
        ("timeout: 3", "steps.a.timeout: there is no such field (did you mean 'timeouts'?)"),
    ],
)
def test_steps_that_are_refused(text: str, message: str) -> None:
    error = refused_step(text)
    assert message in error
    assert re.match(r"line \d+, column \d+: ", error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("function: module", "steps.a.function: 'module' names no function (write module:function)"),
        ("function: 3", "steps.a.function: 3 stands where an object is needed (give an object with module, qualname, "),
        ("command: 3", "steps.a.command: 3 stands where an object is needed"),
        ("command: [echo, 1]", "steps.a.command.argv[1]: 1 is no text"),
        ("command: {argv: echo}", "steps.a.command.argv: 'echo' is no list"),
        ("command: {argv: [x], outputs: {o: stderr}}", "steps.a.command.outputs.o: 'stderr' stands where an object"),
        (
            "command: {argv: [x], outputs: {o: {stdout: true, file: x}}}",
            "steps.a.command.outputs.o: stdout and file are both given",
        ),
        ("command: {argv: [x], outputs: {o: {file: x, format: xml}}}", "'xml' is not known (known: json, text)"),
    ],
)
def test_actions_that_are_refused(text: str, message: str) -> None:
    assert message in refused(f"name: p\nsteps:\n  a:\n    {text}\n")


def test_aliases_repeat_values_up_to_a_limit() -> None:
    spec = load("name: p\nsteps:\n  a: &x {command: [x], labels: {k: v}}\n  b: *x\n")
    assert [(each.name, dict(each.labels)) for each in spec.steps] == [("a", {"k": "v"}), ("b", {"k": "v"})]
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    assert "aliases repeat more than 100,000 values" in refused(bomb)


def test_a_text_past_the_limit_is_refused_unread() -> None:
    assert "longer than 32.0 MiB" in refused("#" * (32 * 2**20 + 1))


PAGES = [*sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_yaml_block_of_the_documentation_loads(page: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    assert page.name != "yaml.md" or len(blocks) >= 3
    for block in blocks:
        whole = re.search(r"^name:", block, re.MULTILINE)
        assert bool(whole) != block.startswith("# a fragment\n"), "what is no whole file begins with `# a fragment`"
        spec = load(block if whole else _completed(block))
        assert yaml_format.load(yaml_format.dump(spec)) == spec


def _completed(block: str) -> str:
    """A block of the documentation may show parts: of a pipeline, or of its steps."""
    return f"name: p\n{block}" if re.search(r"^steps:", block, re.MULTILINE) else f"{HEAD}\n{block}"


# Writing and reading again

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "",
        "no",
        "1e5",
        "0o7",
        "~",
        "${x}",
        "$${",
        "a: b",
        "- x",
        "#",
        " lead",
        "trail ",
        "a\nb",
        "a\n",
        "0x1",
        ".5",
        "+1",
        "1_0",
        "=",
        "<<",
    ]
)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0)
values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.sampled_from(["step", "value", "path"]), inner, max_size=3)
    ),
    max_leaves=6,
)
paths = st.lists(texts.filter(bool) | st.sampled_from(["0", "12", "007"]), max_size=3)
spans = st.integers(0, 10**15)


@st.composite
def inputs(draw: st.DrawFn) -> pipeline_pb2.Input:
    kind = draw(st.sampled_from(["value", "parameter", "step", "item"]))
    if kind == "value":
        return pipeline_pb2.Input(value=to_value(draw(values)))
    if kind == "parameter":
        return pipeline_pb2.Input(parameter=draw(names))
    if kind == "step":
        return pipeline_pb2.Input(step=pipeline_pb2.OutputReference(step=draw(names), path=draw(paths)))
    return pipeline_pb2.Input(item=pipeline_pb2.ItemReference(path=draw(paths)))


@st.composite
def steps(draw: st.DrawFn) -> pipeline_pb2.StepSpec:
    message = pipeline_pb2.StepSpec(
        name=draw(names),
        description=draw(texts),
        trigger_rule=draw(st.sampled_from(pipeline_pb2.TriggerRule.values())),
        when=draw(texts),
        labels=draw(st.dictionaries(texts, texts, max_size=2)),
        env=draw(st.dictionaries(texts, texts, max_size=2)),
        depends_on=draw(st.lists(names, max_size=2)),
        allow_failure=draw(st.booleans()),
        resources=pipeline_pb2.Resources(cpu=draw(st.floats(0, 64)), memory_bytes=draw(st.integers(0, 2**40))),
    )
    for name, source in draw(st.dictionaries(names, inputs(), max_size=3)).items():
        message.inputs[name].CopyFrom(source)
    message.timeouts.attempt.FromNanoseconds(draw(spans))
    if draw(st.booleans()):
        message.function.module, message.function.qualname = draw(names), draw(names)
    else:
        _fill_command(message.command, draw)
    if draw(st.booleans()):
        _fill_map(message.map, draw)
    if draw(st.booleans()):
        message.retry.jitter = draw(st.floats(0, 1))
    return message


def _fill_map(over: pipeline_pb2.MapSpec, draw: st.DrawFn) -> None:
    """Also what no coordinator accepts: it is written and read all the same."""
    if draw(st.booleans()):
        _fill_list(over, draw)
    for name in draw(st.lists(names, max_size=2)):
        _fill_list(over.lists.add(name=name), draw)
    over.combination = draw(st.sampled_from(pipeline_pb2.MapCombination.values()))
    over.max_parallel = draw(st.integers(0, 3))
    over.joined = draw(st.booleans())
    if draw(st.booleans()):
        over.nested.path.extend(draw(paths))
        over.nested.SetInParent()
    over.SetInParent()


def _fill_list(over: pipeline_pb2.MapSpec | pipeline_pb2.MapList, draw: st.DrawFn) -> None:
    match draw(st.sampled_from(["parameter", "step", "values"])):
        case "parameter":
            over.parameter = draw(names)
        case "step":
            over.step.step = draw(names)
            over.step.path.extend(draw(paths))
        case "values":
            over.values.CopyFrom(to_list_value(draw(st.lists(values, max_size=3))))


def _fill_command(command: pipeline_pb2.CommandAction, draw: st.DrawFn) -> None:
    if draw(st.booleans()):
        command.argv.extend(draw(st.lists(texts, min_size=1, max_size=3)))
    else:
        command.shell = draw(texts)
    for name in draw(st.lists(names, max_size=2)):
        command.outputs.add(name=name, file=draw(texts), format=pipeline_pb2.OUTPUT_FORMAT_JSON)
    command.success_exit_codes.extend(draw(st.lists(st.integers(0, 255), max_size=2)))
    command.SetInParent()


@st.composite
def specs(draw: st.DrawFn) -> pipeline_pb2.PipelineSpec:
    message = pipeline_pb2.PipelineSpec(
        name=draw(names),
        steps=draw(st.lists(steps(), min_size=1, max_size=3)),
        labels=draw(st.dictionaries(texts, texts, max_size=2)),
        fail_fast=draw(st.booleans()),
        max_parallel=draw(st.integers(0, 1_000)),
    )
    for name in draw(st.lists(names, max_size=2)):
        parameter = message.parameters.add(name=name, type=draw(st.sampled_from([1, 2, 7])))
        if draw(st.booleans()):
            parameter.default.CopyFrom(to_value(draw(values)))
    if draw(st.booleans()):
        message.stop_grace.FromNanoseconds(draw(spans))
    return message


@given(specs())
@settings(max_examples=120, deadline=None)
def test_what_is_written_is_read_back(spec: pipeline_pb2.PipelineSpec) -> None:
    text = yaml_format.dump(spec)
    assert yaml_format.load(text) == spec, text


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@`#, \n\t0~<?="), max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        read_yaml(text)
    except YamlError:
        return
