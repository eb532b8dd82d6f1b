"""Errors of the coordinator in the words of the command line: its remedies name calls, and people type commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import NotFoundError, ServiceError

if TYPE_CHECKING:
    from penstock.client.client import Client

_COMMANDS = {
    "UNKNOWN_PIPELINE": "`penstock list pipelines` shows those that there are",
    "UNKNOWN_VERSION": "`penstock list versions --pipeline NAME` shows those that there are",
    "UNKNOWN_AGENT": "`penstock agents` shows those that there are",
    "UNKNOWN_DEAD_LETTER": "`penstock dead-letters list` shows those that there are",
    "UNKNOWN_BULK_JOB": "`penstock bulk list` shows those that there are",
    "UNKNOWN_RUN": "`penstock list` shows those that there are",
}
_WHAT = re.compile(r"(?P<what>(?:there is no|no) [^:]*|the pipeline \S+ has no version \d+)(?::.*)?", re.DOTALL)
_NO_RUN_ID = re.compile(r"(?:[a-z_]+: )?(?P<what>.* is no run id)(?::.*)?", re.DOTALL)
_SUFFIXES = (".yaml", ".yml", ".py")


def in_words_of_commands(error: ServiceError) -> str | None:
    """The whole message with the command that helps; None if the coordinator's own is the right one."""
    if error.reason == "RUN_KEY_TAKEN":
        return _key_taken(error)
    if no_run := _NO_RUN_ID.fullmatch(error.message):
        return f"{no_run['what']} (`penstock list` shows runs)"
    remedy = "" if error.remedy else _COMMANDS.get(error.reason)
    what = _WHAT.fullmatch(error.message)
    return f"{what['what']} ({remedy})" if what and remedy else None


def _key_taken(error: ServiceError) -> str:
    run_id, state = error.metadata.get("run_id", ""), error.metadata.get("state", "")
    if state in ("COMPLETED", "FAILED", "CANCELLED", "ROLLED_BACK"):
        remedy = "take another key, or another --run-key-reuse"
    else:
        remedy = f"--use-existing watches that one, `penstock cancel {run_id}` ends it; or take another key"
    return f"the run key is that of the run {run_id}, which is {state} ({remedy})"


async def known_pipeline(client: Client, name: str) -> None:
    """Raises NotFoundError with the nearest name, or the file to be applied."""
    try:
        await client.get_pipeline(name)
    except NotFoundError as error:
        raise await better_pipeline(client, name, error) from None


async def better_pipeline(client: Client, name: str, error: NotFoundError) -> NotFoundError:
    """The error with what was likely meant."""
    from penstock.names import nearest

    if "VERSION" in error.reason:
        return error
    if file := _file_of(name):
        return _not_found(name, f"`penstock apply {file}` creates it, `penstock run {file}` starts it as well")
    close = nearest(name, [pipeline.name async for pipeline in client.list_pipelines()])
    return _not_found(name, close) if close.startswith("did you mean") else error


def _file_of(name: str) -> str:
    """One in this folder that may hold the pipeline, or ""."""
    return next((name + suffix for suffix in _SUFFIXES if Path(name + suffix).is_file()), "")


def _not_found(name: str, remedy: str) -> NotFoundError:
    message = f"there is no pipeline {name!r}"
    return NotFoundError(message, code="NOT_FOUND", reason="UNKNOWN_PIPELINE", remedy=remedy)
