"""The secrets of the attempt that runs: its variables, its files, and what is told of it without them."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from penstock_agent.executors.channel import Failure, Finished, Produced, Task
from penstock_agent.secrets.masking import Masker

PIECE = 1 << 20
LARGEST_DECODED = 32 << 20
"""Bytes of JSON. Larger values are looked through as they are written."""
FOLDER_VARIABLE = "PENSTOCK_SECRETS_DIR"


def secret_variables(task: Task, work_dir: str) -> dict[str, str]:
    """What the attempt's environment has of them."""
    variables = {secret.env: secret.value for secret in task.secrets if secret.env}
    if any(secret.file for secret in task.secrets):
        variables[FOLDER_VARIABLE] = str(secrets_folder(work_dir))
    return variables


def write_files(task: Task, work_dir: str) -> None:
    """Readable by the agent's user alone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core would hold the secrets too.
    files = [secret for secret in task.secrets if secret.file]
    if not files:
        return
    folder = secrets_folder(work_dir)
    remove_files(work_dir)
    folder.mkdir(mode=0o700)
    for secret in files:
        with open(folder / secret.file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secret.value.encode())


def remove_files(work_dir: str) -> None:
    shutil.rmtree(secrets_folder(work_dir), ignore_errors=True)


def secrets_folder(work_dir: str) -> Path:
    """Beside the working folder, whose content may become an output."""
    return Path(work_dir).with_name("secrets")


def without_secrets(finished: Finished, task: Task, masker: Masker) -> Finished:
    """An output that holds a secret is not given on: changed it would be another value, which nobody would notice."""
    if finished.failure is None and (_in_json(finished.output, masker) or _in_values(finished, masker)):
        failed = _in_output(task, finished)
        for produced in finished.artifacts:
            Path(produced.path).unlink(missing_ok=True)
        finished = msgspec.structs.replace(finished, output=b"", artifacts=[], failure=failed)
    failure = finished.failure
    return msgspec.structs.replace(
        finished,
        failure=None if failure is None else _masked(failure, masker),
        metrics={
            masker.text(name): value for name, value in finished.metrics.items() if not masker.finds(_digits(value))
        },
        metadata={masker.text(name): masker.text(text) for name, text in finished.metadata.items()},
    )


def _masked(failure: Failure, masker: Masker) -> Failure:
    return msgspec.structs.replace(
        failure,
        message=masker.text(failure.message),
        error_class=masker.text(failure.error_class),
        error_bases=[masker.text(each) for each in failure.error_bases],
        traceback=masker.text(failure.traceback),
    )


def _in_values(finished: Finished, masker: Masker) -> bool:
    """Outputs that are too large to be inline. Files and folders are the step's own to answer for."""
    return any(_in_value(each, masker) for each in finished.artifacts if each.kind == "value")


def _in_value(produced: Produced, masker: Masker) -> bool:
    path = Path(produced.path)
    if produced.codec in ("", "json") and produced.size <= LARGEST_DECODED:
        return _in_json(path.read_bytes(), masker)
    return _in_file(path, masker)


def _in_json(data: bytes, masker: Masker) -> bool:
    """Also in the texts as they are read: JSON writes quotes and backslashes of a secret's other forms otherwise."""
    if masker.finds(data):
        return True
    if b"\\" not in data:
        return False
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # which fails the attempt elsewhere
    return masker.finds("\n".join(_texts(value)).encode("utf-8", "surrogatepass"))


def _texts(value: object) -> Iterator[str]:
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            pending += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            pending += each


def _in_file(path: Path, masker: Masker) -> bool:
    """Pieces overlap, so that none of them cuts through a secret unseen."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            if masker.finds(rest + piece):
                return True
            rest = (rest + piece)[-masker.longest :]
    return False


def _in_output(task: Task, finished: Finished) -> Failure:
    maskers = {secret.name: Masker([secret.value]) for secret in task.secrets}
    found = [name for name, each in maskers.items() if _in_json(finished.output, each) or _in_values(finished, each)]
    names = ", ".join(map(repr, found))
    return Failure(
        "Secret",
        f"the output holds the secret {names}: outputs are kept and shown; return something else, and let the steps"
        " that need the secret name it themselves",
    )


def _digits(value: float) -> bytes:
    """As a secret of digits would stand there."""
    return (str(int(value)) if value == int(value) else repr(value)).encode()
