"""`command`: a program as a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Unpack

from penstock.authoring.calls import Call, graph_for
from penstock.authoring.graph import CommandTarget
from penstock.authoring.options import CommandKeywords, MappedCommandKeywords, StepOptions, read_options
from penstock.authoring.shapes import entries_of, members_of
from penstock.errors import DefinitionError
from penstock.names import check_name


@dataclass(frozen=True, slots=True)
class Stdout:
    """An output: all that the command wrote to standard output, without the last line break."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """An output: a file, relative to the attempt's working folder."""

    path: str
    json: bool = False


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """An output: a file or folder, relative to the attempt's working folder, that is kept as an artifact."""

    path: str


CommandOutput: TypeAlias = Stdout | File | ArtifactFile


class Command:
    """`command`: adds programs to the pipeline whose body is running."""

    def __repr__(self) -> str:
        return "<command>"

    def __call__(
        self,
        name: str,
        *,
        argv: Sequence[str] = (),
        shell: str = "",
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, CommandOutput] | None = None,
        success_exit_codes: Sequence[int] = (),
        input_files: Mapping[str, str] | None = None,
        **options: Unpack[CommandKeywords],
    ) -> Any:
        """Adds a command; returns its output.

        Exactly one of `argv` (no shell touches it) and `shell` (a script for /bin/sh -e -c). The command finds
        `inputs` in its environment as PENSTOCK_INPUT_<NAME>; those that `input_files` gives a path are put there, below
        the working folder, before it runs: artifacts as files and folders, texts as they are, other values as JSON. Its
        output is an object with the members of
        `outputs`, or None without any.
        """
        graph = graph_for("command(...)", name)
        target = _target(name, argv, shell, outputs, success_exit_codes, input_files)
        return _call(name, target, inputs, options).add(graph)

    def map(
        self,
        name: str,
        *,
        argv: Sequence[str] = (),
        shell: str = "",
        inputs: Mapping[str, Any],
        outputs: Mapping[str, CommandOutput] | None = None,
        success_exit_codes: Sequence[int] = (),
        input_files: Mapping[str, str] | None = None,
        **options: Unpack[MappedCommandKeywords],
    ) -> Any:
        """Adds a command that is run for each item of a list; returns the list of their outputs.

        Which of `inputs` are lists to go through is as for the arguments of `Step.map`: those that are a list, a
        parameter or the output of a step; the others, and what is in `unmapped(...)`, are the same for every item.
        `max_parallel` bounds how many items are under way at once.
        """
        graph = graph_for("command.map(...)", name)
        target = _target(name, argv, shell, outputs, success_exit_codes, input_files)
        return _call(name, target, inputs, options).add_map(graph, zipped=False)

    def zip(
        self,
        name: str,
        *,
        argv: Sequence[str] = (),
        shell: str = "",
        inputs: Mapping[str, Any],
        outputs: Mapping[str, CommandOutput] | None = None,
        success_exit_codes: Sequence[int] = (),
        input_files: Mapping[str, str] | None = None,
        **options: Unpack[MappedCommandKeywords],
    ) -> Any:
        """As `map` over several lists, but the first members go together, then the second ones."""
        graph = graph_for("command.zip(...)", name)
        target = _target(name, argv, shell, outputs, success_exit_codes, input_files)
        return _call(name, target, inputs, options).add_map(graph, zipped=True)


command = Command()


def _target(
    name: str,
    argv: Sequence[str],
    shell: str,
    outputs: Mapping[str, CommandOutput] | None,
    success_exit_codes: Sequence[int],
    input_files: Mapping[str, str] | None,
) -> CommandTarget:
    target = CommandTarget(
        argv=_check_argv(argv, name),
        shell=_check_shell(shell, name),
        outputs={
            check_name(member, f"{name}.outputs"): _check_output(output, f"{name}.outputs.{member}")
            for member, output in entries_of(outputs, f"{name}.outputs", 'as in {"rows": File("rows.json")}').items()
        },
        success_exit_codes=_check_codes(success_exit_codes, name),
        input_files={
            check_name(key, f"{name}.input_files"): _check_path(path, f"{name}.input_files.{key}")
            for key, path in entries_of(input_files, f"{name}.input_files", 'as in {"rows": "in/rows.json"}').items()
        },
    )
    if bool(target.argv) == bool(target.shell):
        raise DefinitionError(
            "exactly one of argv and shell is needed", field=name, remedy='argv=["echo", "hi"] or shell="echo hi"'
        )
    return target


def _call(name: str, target: CommandTarget, inputs: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Call:
    """The name is taken as it is: two commands of a pipeline have different ones."""
    given = entries_of(inputs, f"{name}.inputs", 'as in {"rows": load()}')
    arguments = {check_name(key, f"{name}.inputs"): value for key, value in given.items()}
    for key in target.input_files:
        if key not in arguments:
            raise DefinitionError(
                f"there is no input {key!r}", field=f"{name}.input_files", remedy="name one of the inputs"
            )
    return Call(target, read_options(StepOptions(), {**options, "name": name}), name, arguments)


def _check_argv(argv: Any, name: str) -> tuple[str, ...]:
    remedy = "give a list of texts; a single text goes into shell="
    parts = members_of(() if argv is None else argv, f"{name}.argv", remedy)
    if not all(isinstance(part, str) for part in parts):
        raise DefinitionError("argv must be a list of texts", field=f"{name}.argv", remedy=remedy)
    return parts


def _check_shell(shell: Any, name: str) -> str:
    if not isinstance(shell, str):
        raise DefinitionError(
            "the script must be a text", field=f"{name}.shell", remedy="a list of texts goes into argv="
        )
    return shell


def _check_codes(codes: Any, name: str) -> tuple[int, ...]:
    given = members_of(codes, f"{name}.success_exit_codes", "as in [0, 3]")
    for code in given:
        if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code <= 255:
            raise DefinitionError(
                f"{code!r} is no exit code", field=f"{name}.success_exit_codes", remedy="use 0 to 255"
            )
    return given


def _check_output(output: Any, field: str) -> CommandOutput:
    if isinstance(output, Stdout):
        return output
    if isinstance(output, File | ArtifactFile):
        _check_path(output.path, field)
        return output
    raise DefinitionError(
        f"{output!r} is no output of a command",
        field=field,
        remedy='use Stdout(), File("name") or ArtifactFile("name")',
    )


def _check_path(path: Any, field: str) -> str:
    if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/"):
        raise DefinitionError(
            f"{path!r} is no path below the working folder", field=field, remedy='as in "data/input.csv"'
        )
    return path
