"""What steps run: functions and commands, and the outputs of commands."""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.report import Report, member
from penstock_coordinator.core.plan.validation.texts import check_bytes, check_name, has_control

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_VARIABLE = re.compile(r"[^A-Z0-9]")
"""Of names in capitals."""
_FORMATS = frozenset(pb.OutputFormat.values())


def check_bundle(report: Report, spec: pb.PipelineSpec) -> None:
    """Its form, and whether it is there if a function needs it."""
    digest = spec.bundle_digest
    if digest:
        if not _DIGEST.fullmatch(digest):
            report.add("bundle_digest", f"{quoted(digest)} is no digest: use 64 hex digits in lower case (SHA-256)")
        return
    for number, step in enumerate(spec.steps):
        if step.WhichOneof("action") == "function":
            report.add(
                "bundle_digest",
                f"steps[{number}] is a function, and there is no code bundle: upload one and name its digest",
            )
            return


def check_allow_pickle(report: Report, spec: pb.PipelineSpec) -> None:
    if not spec.allow_pickle:
        return
    functions = {step.name for step in spec.steps if step.WhichOneof("action") == "function"}
    first: dict[str, int] = {}
    for at, name in enumerate(spec.allow_pickle):
        if name not in functions:
            report.add(f"allow_pickle[{at}]", f"{quoted(name)} is no step that is a function: name one that is")
        elif first.setdefault(name, at) != at:
            report.add(f"allow_pickle[{at}]", f"{quoted(name)} is there twice: name it once")


def check_action(report: Report, field: str, step: pb.StepSpec, limits: Limits) -> None:
    match step.WhichOneof("action"):
        case "function":
            function = step.function
            if function.module and function.qualname:
                _check_dotted(report, f"{field}.function.module", function.module, limits)
                _check_dotted(report, f"{field}.function.qualname", function.qualname, limits)
                _check_code_digest(report, f"{field}.function.code_digest", function.code_digest)
                return
            for name in ("module", "qualname"):
                if not getattr(function, name):
                    report.add(f"{field}.function.{name}", f"the {name} is empty: name the function to run")
        case "command":
            _check_command(report, f"{field}.command", step.command, limits)
            _check_input_files(report, f"{field}.command.input_files", step, limits)
        case "pipeline":
            _check_pipeline(report, field, step, limits)
        case _:
            report.add(field, "the step runs nothing: give it `function`, `command` or `pipeline`")


def _check_pipeline(report: Report, field: str, step: pb.StepSpec, limits: Limits) -> None:
    """A run needs no agent of its own, so nothing is said of agents."""
    check_name(report, f"{field}.pipeline.name", step.pipeline.name, limits)
    if step.pipeline.version_number < 0:
        text = f"{step.pipeline.version_number} is negative: name a version from 1 up, or 0 for the newest"
        report.add(f"{field}.pipeline.version_number", text)
    remedy = "say it of the steps of that pipeline"
    for name in ("queue", "labels", "env", "secrets"):
        if getattr(step, name):
            report.add(f"{field}.{name}", f"the step is a run of a pipeline, which no agent takes: {remedy}")
    for name, is_given in (
        ("resources", step.HasField("resources")),
        ("environment", step.HasField("environment")),
    ):
        if is_given:
            report.add(f"{field}.{name}", f"the step is a run of a pipeline, which no agent takes: {remedy}")
    if step.priority:
        report.add(f"{field}.priority", f"the step is a run of a pipeline, which no agent takes: {remedy}")
    for name, is_given in (
        ("attempt", step.timeouts.HasField("attempt")),
        ("queued", step.timeouts.HasField("queued")),
    ):
        if is_given:
            text = "the step is a run of a pipeline: give `overall`, or give that pipeline a timeout"
            report.add(f"{field}.timeouts.{name}", text)


def _check_code_digest(report: Report, field: str, digest: str) -> None:
    if digest and not _DIGEST.fullmatch(digest):
        report.add(field, f"{quoted(digest)} is no digest: use 64 hex digits in lower case (SHA-256), or leave it out")


def _check_dotted(report: Report, field: str, name: str, limits: Limits) -> None:
    if not check_bytes(report, field, name, limits.function_bytes, "the name"):
        return
    if all(part.isidentifier() for part in name.split(".")):
        return
    if "<locals>" in name or "<lambda>" in name:
        report.add(field, f"{quoted(name)} is inside of a function: only what a module defines at its top can be run")
    else:
        report.add(field, f"{quoted(name)} is no dotted name: use identifiers with '.' between them")


def _check_command(report: Report, field: str, command: pb.CommandAction, limits: Limits) -> None:
    if bool(command.argv) == bool(command.shell):
        have = "both argv and shell are given" if command.argv else "there is no command"
        report.add(field, f"{have}: give exactly one of argv and shell")
    elif command.argv:
        _check_argv(report, f"{field}.argv", list(command.argv), limits)
    else:
        _check_shell(report, f"{field}.shell", command.shell, limits)
    _check_exit_codes(report, f"{field}.success_exit_codes", list(command.success_exit_codes), limits)
    if command.outputs:
        _check_outputs(report, f"{field}.outputs", list(command.outputs), limits)


def _check_input_files(report: Report, field: str, step: pb.StepSpec, limits: Limits) -> None:
    files = step.command.input_files
    for name in sorted(files):
        place = f"{field}[{member(name)}]"
        if name not in step.inputs:
            report.add(place, f"the step has no input {quoted(name)}: name one of its inputs")
        _check_file(report, place, files[name], limits)
        if _parts(files[name])[:1] == ["bundle"]:
            report.add(place, "'bundle' is where the code bundle is: use another folder")
    _check_places(report, field, files)


def _check_places(report: Report, field: str, files: Mapping[str, str]) -> None:
    """No two at the same place, or one inside of the other: in order what is inside comes right after."""
    above, taken = "", None
    for path, name in sorted((_parts(files[name]), name) for name in files):
        if taken is None or path[: len(taken)] != taken:
            above, taken = name, path
            continue
        other, later = sorted((above, name))
        text = f"the input {quoted(other)} is put to {quoted(files[other])}: choose another path"
        report.add(f"{field}[{member(later)}]", text)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _check_argv(report: Report, field: str, argv: list[str], limits: Limits) -> None:
    if len(argv) > limits.argv:
        report.add(field, f"there are {len(argv):,} arguments, past the limit of {limits.argv:,}: pass them in a file")
        return
    if not argv[0].strip():
        report.add(f"{field}[0]", "the program's name is empty: name what to run")
    for at, argument in enumerate(argv):
        if "\x00" in argument:
            report.add(f"{field}[{at}]", "it has a NUL character, which no argument can hold: remove it")
    size = sum(len(argument.encode()) + 1 for argument in argv)
    if size > limits.command_bytes:
        report.add(field, f"it has {size:,} bytes, past the limit of {limits.command_bytes:,}: pass less, or a file")


def _check_shell(report: Report, field: str, script: str, limits: Limits) -> None:
    if not script.strip():
        report.add(field, "the script is blank: write a command")
    if "\x00" in script:
        report.add(field, "the script has a NUL character, which no shell can read: remove it")
    check_bytes(report, field, script, limits.command_bytes, "the script")


def _check_exit_codes(report: Report, field: str, codes: list[int], limits: Limits) -> None:
    if len(codes) > limits.exit_codes:
        report.add(field, f"there are {len(codes):,} codes, past the limit of {limits.exit_codes}: name each once")
        return
    for at, code in enumerate(codes):
        if not 0 <= code <= 255:
            report.add(f"{field}[{at}]", f"{code} is no exit code: use 0 to 255")


def _check_outputs(report: Report, field: str, outputs: list[pb.CommandOutput], limits: Limits) -> None:
    if len(outputs) > limits.outputs:
        report.add(field, f"there are {len(outputs):,} outputs, past the limit of {limits.outputs}: use fewer")
        return
    first: dict[str, int] = {}
    for at, output in enumerate(outputs):
        place = f"{field}[{at}]"
        check_name(report, f"{place}.name", output.name, limits)
        if first.setdefault(output.name, at) != at:
            same = f"{field}[{first[output.name]}]"
            report.add(f"{place}.name", f"{quoted(output.name)} is the name of {same} too: choose another")
        _check_source(report, place, output, limits)
        if output.format not in _FORMATS:
            report.add(f"{place}.format", f"{output.format} is no format: use TEXT or JSON")
        if output.artifact:
            _check_artifact(report, place, output)
    _check_output_variables(report, field, outputs)


def _check_output_variables(report: Report, field: str, outputs: list[pb.CommandOutput]) -> None:
    """Each file has a variable of its own."""
    first: dict[str, str] = {}
    for at, output in enumerate(outputs):
        other = first.setdefault(_NO_VARIABLE.sub("_", output.name.upper()), output.name) if output.file else ""
        if other and other != output.name:
            text = f"{quoted(other)} and {quoted(output.name)} both become one variable PENSTOCK_OUTPUT_...: rename one"
            report.add(f"{field}[{at}].name", text)


def _check_artifact(report: Report, place: str, output: pb.CommandOutput) -> None:
    if output.WhichOneof("source") != "file":
        report.add(f"{place}.artifact", "standard output is no file: write one, and name it with `file`")
    if output.format != pb.OUTPUT_FORMAT_UNSPECIFIED:
        report.add(f"{place}.format", "an artifact is kept as it is: leave out the format")


def _check_source(report: Report, place: str, output: pb.CommandOutput, limits: Limits) -> None:
    match output.WhichOneof("source"):
        case "stdout":
            if not output.stdout:
                report.add(f"{place}.stdout", "it is false: say true, or name a file")
        case "file":
            _check_file(report, f"{place}.file", output.file, limits)
        case _:
            report.add(place, "it says not where the value is read from: give stdout: true, or a file")


def _check_file(report: Report, field: str, path: str, limits: Limits) -> None:
    if not check_bytes(report, field, path, limits.file_bytes, "the path"):
        return
    fault = _file_fault(path)
    if fault is not None:
        report.add(field, f"{fault}: use a path inside of the working folder, as in 'out/result.json'")


def _file_fault(path: str) -> str | None:
    if not path:
        return "the path is empty"
    if has_control(path):
        return f"the path {quoted(path)} has a NUL or another control character"
    if path.startswith("/"):
        return f"{quoted(path)} is an absolute path"
    parts = path.split("/")
    if ".." in parts:
        return f"{quoted(path)} leaves the working folder"
    if parts[-1] in ("", "."):
        return f"{quoted(path)} names a folder"
    if "" in parts:
        return f"{quoted(path)} has an empty part"
    if any(len(part.encode()) > 255 for part in parts):
        return "the path has a part of more than 255 bytes"
    return None
