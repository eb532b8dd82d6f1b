"""What the command line makes of files, parameters and names, before anything is sent."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from penstock import errors
from penstock.cli.diffing import read_versions
from penstock.cli.loading import load_pipeline
from penstock.cli.looking import split_step
from penstock.cli.main import COMMANDS, cli
from penstock.cli.params import read_parameters
from penstock.cli.processes import process_command
from penstock.cli.running import read_labels
from penstock.v1 import pipeline_pb2
from penstock.yaml_format import load

SPEC = """
name: p
parameters:
  text: {type: string, default: ""}
  count: {type: int, default: 0}
  share: {type: float, default: 0}
  flag: {type: bool, default: false}
  items: {type: list, default: []}
  table: {type: map, default: {}}
  anything: {type: any, default: null}
steps:
  a: {command: [echo, hi]}
"""


def spec() -> pipeline_pb2.PipelineSpec:
    return load(SPEC)


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=12", "12"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("count=-3", -3),
        ("share=2", 2),
        ("share=1e-3", 0.001),
        ("flag=true", True),
        ("flag=False", False),
        ('items=[1, "a"]', [1, "a"]),
        ('table={"a": [1]}', {"a": [1]}),
        ("anything=null", None),
        ("anything=3", 3),
        ("anything=plain text", "plain text"),
    ],
)
def test_a_pair_is_read_by_the_declared_type(pair: str, value: object) -> None:
    values = read_parameters(spec(), [pair], None)
    assert values == {pair.partition("=")[0]: value}
    assert type(values[pair.partition("=")[0]]) is type(value)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("count=three", "count: 'three' does not fit the type int (give a whole number, for example 3)"),
        ("count=1.5", "count: 1.5 does not fit the type int (give a whole number)"),
        ("count=true", "count: True does not fit the type int (give a whole number)"),
        ("count=9007199254740993", "count: 9007199254740993 is beyond 2^53"),
        ("share=NaN", "share: nan is no JSON number"),
        ("flag=yes", "flag: 'yes' does not fit the type bool (give true or false)"),
        ("items=a,b", "items: 'a,b' does not fit the type list (give JSON, for example '[1, 2]')"),
        ("items={}", "items: {} does not fit the type list (give a list)"),
        ("table=[]", "table: [] does not fit the type map"),
        ("cuont=3", "cuont: the pipeline has no such parameter (did you mean 'count'?)"),
        ("count", "--param: 'count' is no parameter (write -p name=value)"),
        ("items=" + "[" * 100_000, "does not fit the type list"),
        ("count=" + "9" * 5_000, "9… does not fit the type int (give a whole number, for example 3)"),
        ("count=٣", "does not fit the type int"),
        ('table={"a": 1, "b": {"c": 1, "c": 2}}', "table: the key 'c' is given twice (remove one of them)"),
    ],
)
def test_a_pair_that_does_not_fit(pair: str, message: str) -> None:
    with pytest.raises(errors.ParameterError) as caught:
        read_parameters(spec(), [pair], None)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_required_parameter_is_asked_for() -> None:
    required = load("name: p\nparameters: {n: int}\nsteps: {a: {command: [x]}}")
    with pytest.raises(errors.ParameterError, match="add -p n=VALUE"):
        read_parameters(required, [], None)


def test_a_parameter_file_is_checked_too(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("count: 3\ntext: no\n")
    assert read_parameters(spec(), ["count=4"], file) == {"count": 4, "text": "no"}
    file.write_text("count: three\n")
    with pytest.raises(errors.ParameterError, match="count"):
        read_parameters(spec(), [], file)
    file.write_text("- 1\n")
    with pytest.raises(errors.ParameterError, match="no object"):
        read_parameters(spec(), [], file)


def test_labels_and_step_names() -> None:
    assert read_labels(["a=1", "b="]) == {"a": "1", "b": ""}
    with pytest.raises(errors.ParameterError, match="no label"):
        read_labels(["a"])
    assert split_step("a.b-c") == ("a.b-c", ())
    assert split_step("a[12]") == ("a", (12,))
    assert split_step("a[1][12]") == ("a", (1, 12))
    with pytest.raises(errors.ParameterError, match="no step"):
        split_step("a[x]")
    with pytest.raises(errors.ParameterError, match="no step"):
        split_step("a[99999999999999999999]")


@pytest.mark.parametrize(
    "arguments",
    [
        ["logs", "--tail", "10001"],
        ["logs", "--attempt", str(2**31)],
        ["logs", "--after", str(2**63)],
        ["get", "--at", str(2**63)],
        ["watch", "--from-event", str(2**63)],
        ["retry", "--version", str(2**63)],
    ],
)
def test_numbers_that_the_api_cannot_carry_are_refused_by_their_option(arguments: list[str]) -> None:
    with pytest.raises(click.BadParameter, match="is not in the range") as refused:
        cli.main([*arguments, "01a20062-66af-7419-a07b-3deb07e97e45"], standalone_mode=False)
    assert refused.value.param is not None
    assert arguments[1] in refused.value.param.opts


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", "x = 1\n", "the file defines no pipeline"),
        ("syntax.py", "def (\n", "the module does not import: SyntaxError"),
        ("exits.py", "raise SystemExit(0)\n", "the module does not import: SystemExit"),
        ("bad.yaml", "name: x\nsteps: [\n", "line 3"),
        ("latin.yaml", "name: \udcff", "save it as UTF-8"),
        ("bad.txt", "x", "the ending '.txt' is not known"),
        (
            "folder.yaml",
            "name: x\nbundle: nope\nsteps: {a: {function: 'm:f'}}",
            "bundle: nope: there is no such folder",
        ),
    ],
)
def test_a_file_that_is_no_pipeline(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(errors.PenstockError) as caught:
        load_pipeline(str(file))
    assert message in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(errors.LoadError, match=r"nowhere\.py: there is no such file"):
        load_pipeline("nowhere.py:x")


def test_a_failing_module_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "comes_and_goes.py"
    file.write_text("1 / 0\n")
    with pytest.raises(errors.LoadError) as caught:
        load_pipeline(str(file))
    assert "comes_and_goes.py" in caught.value.user_traceback
    assert "loading.py" not in caught.value.user_traceback
    file.write_text("from penstock import pipeline, step\n@step\ndef a(): ...\n@pipeline\ndef p(): a()\n")
    assert load_pipeline(str(file)).spec.name == "p"


PREFIX = "from penstock import pipeline, step\n@step\ndef a(x=1): ...\n@pipeline\ndef p():\n"


def load_text(folder: Path, text: str) -> errors.PenstockError:
    file = folder / "described.py"
    file.write_text(text)
    with pytest.raises(errors.PenstockError) as caught:
        load_pipeline(str(file))
    return caught.value


def test_a_definition_error_names_the_users_line(tmp_path: Path) -> None:
    decorated = load_text(tmp_path, "from penstock import step\n\n@step(retries=-1)\ndef a(): ...\n")
    assert str(decorated).startswith("described.py:3: retries: -1 is out of bounds (")
    called = load_text(tmp_path, PREFIX + "    a(x={1})\n")
    assert str(called).startswith("described.py:6: a.x: set is no JSON value (")
    used = load_text(tmp_path, PREFIX + "    if a():\n        a()\n")
    assert str(used).startswith("described.py:6: <output of a> has no value while the pipeline is built")


def test_a_body_that_fails_shows_the_users_frames(tmp_path: Path) -> None:
    error = load_text(tmp_path, PREFIX + "    a()\n    [][1]\n")
    assert isinstance(error, errors.LoadError)
    assert "the body of the pipeline 'p' fails: IndexError" in str(error)
    assert "line 7, in p" in error.user_traceback
    assert "pipelines.py" not in error.user_traceback


def test_a_command_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "dev", ("needs_more", "dev", ""))
    with pytest.raises(errors.PenstockError, match=r"needs 'no_such_package'.*pip install 'penstock\[all\]'"):
        cli.main(["dev", "--agents", "2"], standalone_mode=False)


def test_a_process_without_its_extra_says_what_to_install() -> None:
    command = process_command("server", "penstock_coordinator", "coordinator", ("no_such_module",), "")
    with pytest.raises(errors.PenstockError, match=r"no_such_module.*pip install 'penstock\[coordinator\]'"):
        command.main(["--port", "0"], standalone_mode=False)


def test_an_empty_file_of_parameters_is_told_as_one_of_parameters(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("\n")
    with pytest.raises(errors.ParameterError, match="holds no object of parameters"):
        read_parameters(spec(), [], tmp_path / "p.yaml")


def test_a_process_gets_all_arguments() -> None:
    program = (
        "from penstock.cli.processes import process_command\n"
        "process_command('x', 'json.tool', 'e', (), '').main(['--help'])"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "--sort-keys" in printed.stdout


def test_a_process_imports_nothing_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the user')")
    program = (
        "from penstock.cli.processes import process_command\n"
        "process_command('x', 'json.tool', 'e', (), '').main(['--help'])"
    )
    printed = subprocess.run(
        [sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert "--sort-keys" in printed.stdout


@pytest.mark.parametrize("name", ["http", "token", "penstock"])
def test_a_file_that_would_stand_in_for_a_module_of_python_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text("from penstock import pipeline, step\n@step\ndef f(): ...\n@pipeline\ndef p(): f()\n")
    with pytest.raises(errors.DefinitionError, match=rf"rename it, for example to {name}_pipeline\.py"):
        load_pipeline(str(file))


def test_a_file_of_steps_that_an_ignore_file_leaves_out_is_named(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text("from penstock import pipeline, step\n@step\ndef f(): ...\n@pipeline\ndef p(): f()\n")
    (tmp_path / ".gitignore").write_text("flow.*\n!\n")
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(errors.BundleError, match=r"flow\.py: a step is defined .* !flow\.py in \.penstockignore"):
        load_pipeline(str(file))
    (tmp_path / ".penstockignore").write_text("!flow.py\n")
    assert load_pipeline(str(file)).bundle is not None


@pytest.mark.parametrize(
    ("ignore_file", "pattern", "remedy"),
    [
        (".gitignore", "playground/", "!playground/ in .penstockignore"),
        (".gitignore", "playground/*", "!playground/deep/ in .penstockignore"),
        (".gitignore", "deep", "!playground/deep/ in .penstockignore"),
        ("playground/.gitignore", "deep/", "!deep/ in playground/.penstockignore"),
        (".gitignore", "flow.*", "!playground/deep/flow.py in .penstockignore"),
    ],
)
def test_what_is_said_to_bring_back_an_ignored_file_does_so(
    tmp_path: Path, ignore_file: str, pattern: str, remedy: str
) -> None:
    file = tmp_path / "playground" / "deep" / "flow.py"
    file.parent.mkdir(parents=True)
    file.write_text("from penstock import pipeline, step\n@step\ndef f(): ...\n@pipeline\ndef p(): f()\n")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ignore_file).write_text(f"{pattern}\n")
    with pytest.raises(errors.BundleError, match=f"bring it back: {re.escape(remedy)}") as refused:
        load_pipeline(str(file))
    line, _, place = refused.value.remedy.partition("bring it back: ")[2].partition(" in ")
    (tmp_path / place).write_text(f"{line}\n")
    assert load_pipeline(str(file)).bundle is not None


def test_yaml_functions_ship_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("def f(): ...\n")
    file = tmp_path / "p.yaml"
    file.write_text("name: p\nsteps: {a: {function: 'code:f'}}\n")
    loaded = load_pipeline(str(file))
    assert loaded.bundle is not None
    assert loaded.bundle.root == tmp_path
    assert loaded.spec.bundle_digest == loaded.bundle.digest


@pytest.mark.parametrize(
    ("before", "after", "versions", "read"),
    [
        ("run-1", "run-2", None, None),
        ("p", None, None, ("p", 0, 0)),
        ("p@3", None, None, ("p", 0, 3)),
        ("p@3", "p@5", None, ("p", 3, 5)),
        ("p", None, (3, 5), ("p", 3, 5)),
    ],
)
def test_what_is_to_be_compared(before: str, after: str | None, versions: tuple[int, int] | None, read: object) -> None:
    assert read_versions(before, after, versions) == read


@pytest.mark.parametrize(
    ("before", "after", "versions", "message"),
    [
        ("p@3", "run-1", None, "have nothing to compare"),
        ("p@3", "q@3", None, "versions of two pipelines, p and q"),
        ("p@x", None, None, "names no version: write PIPELINE@3"),
        ("p@0", None, None, "names no version"),
        ("p", "q", (1, 2), "one pipeline's name with --versions"),
    ],
)
def test_what_cannot_be_compared(
    before: str, after: str | None, versions: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(click.UsageError) as caught:
        read_versions(before, after, versions)
    assert message in str(caught.value)
