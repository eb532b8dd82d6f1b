"""Where commands find their inputs and leave their outputs: files in the working folder."""

from __future__ import annotations

import pytest
from tests.unit.plan.specs import base_spec, faults

from penstock.v1 import pipeline_pb2 as pb

A = 0
"""The command `a` of the base."""

FILES = [
    ("", "the path is empty"),
    ("/etc/passwd", "absolute"),
    ("../x", "leaves the working folder"),
    ("a/../../x", "leaves the working folder"),
    ("a/..", "leaves the working folder"),
    ("a\0b", "control character"),
    ("a\nb", "control character"),
    ("a//b", "empty part"),
    ("a/", "names a folder"),
    (".", "names a folder"),
    ("x" * 256, "more than 255 bytes"),
    ("ä" * 128, "more than 255 bytes"),
    ("a/" * 600 + "b", "past the limit of 1,024"),
]


@pytest.mark.parametrize(("path", "message"), FILES)
def test_files_stay_in_the_working_folder(path: str, message: str) -> None:
    spec = base_spec()
    spec.steps[A].command.outputs[0].file = path
    assert message in faults(spec)["steps[0].command.outputs[0].file"]


def put(spec: pb.PipelineSpec, **paths: str) -> None:
    """Inputs of the command `a` that go to these paths."""
    for name, path in paths.items():
        spec.steps[A].inputs[name].value.bool_value = True
        spec.steps[A].command.input_files[name] = path


@pytest.mark.parametrize(("path", "message"), FILES)
def test_inputs_are_put_into_the_working_folder(path: str, message: str) -> None:
    spec = base_spec()
    put(spec, given=path)
    assert message in faults(spec)["steps[0].command.input_files[given]"]


@pytest.mark.parametrize(
    ("paths", "field", "message"),
    [
        ({"given": "bundle/x"}, "given", "where the code bundle is"),
        ({"given": "in/x", "more": "in/x"}, "more", "the input 'given' is put to 'in/x'"),
        ({"given": "in", "more": "in/x"}, "more", "the input 'given' is put to 'in'"),
        ({"given": "in/x/y", "more": "in/x"}, "more", "the input 'given' is put to 'in/x/y'"),
        ({"given": "in", "more": "in-x", "other": "./in/x"}, "other", "the input 'given' is put to 'in'"),
    ],
)
def test_inputs_do_not_fall_upon_each_other(paths: dict[str, str], field: str, message: str) -> None:
    spec = base_spec()
    put(spec, **paths)
    assert message in faults(spec)[f"steps[0].command.input_files[{field}]"]


def test_a_file_needs_its_input() -> None:
    spec = base_spec()
    spec.steps[A].command.input_files["rows"] = "in/rows"
    assert "no input 'rows'" in faults(spec)["steps[0].command.input_files[rows]"]


def test_artifacts_of_commands_are_files_without_a_format() -> None:
    spec = base_spec()
    spec.steps[A].command.outputs[0].artifact = True
    assert not faults(spec)
    spec.steps[A].command.outputs[0].format = pb.OUTPUT_FORMAT_JSON
    spec.steps[A].command.outputs[1].artifact = True
    found = faults(spec)
    assert "leave out the format" in found["steps[0].command.outputs[0].format"]
    assert "standard output is no file" in found["steps[0].command.outputs[1].artifact"]


def test_outputs_that_are_files_have_variables_of_their_own() -> None:
    spec = base_spec()
    spec.steps[A].command.outputs.add(name="a-b", file="x")
    spec.steps[A].command.outputs.add(name="a_b", stdout=True)
    assert not faults(spec)
    spec.steps[A].command.outputs.add(name="a_B", file="y")
    assert "'a-b' and 'a_B' both become" in faults(spec)["steps[0].command.outputs[4].name"]
