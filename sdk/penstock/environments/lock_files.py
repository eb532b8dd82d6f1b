"""Lock files beside a pipeline: read as they are, or written by uv from its own."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import DefinitionError

UV_LOCK = "uv.lock"
EXPORT_WITHIN = 120.0
"""Seconds that uv may take."""


@dataclass(frozen=True, slots=True)
class Lock:
    text: str
    pylock: bool


def read_lock(folder: Path, name: str, field: str) -> Lock:
    """`name` is relative to the folder. DefinitionError: there is no such file, or uv cannot export it."""
    file = folder / name
    if not file.is_file():
        raise DefinitionError(
            f"there is no file {file}", field=field, remedy="name a lock file, relative to the file of the pipeline"
        )
    if file.name == UV_LOCK:
        return Lock(_exported(file, field), pylock=False)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DefinitionError(f"{name} is no text", field=field, remedy="save it as UTF-8") from None
    return Lock(text, pylock=file.name.startswith("pylock.") and file.suffix == ".toml")


def _exported(file: Path, field: str) -> str:
    """The packages of a uv.lock with their hashes, without the project that it is of."""
    program = _uv(field)
    argv = [program, "export", "--frozen", "--no-header", "--no-emit-workspace", "--format", "requirements-txt"]
    argv += ["--project", str(file.parent), "--quiet", "--no-progress", "--color", "never"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=EXPORT_WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DefinitionError(f"uv cannot export {file}: {error}", field=field, remedy="try again") from None
    if done.returncode != 0:
        last = done.stderr.strip()[-2_000:]
        raise DefinitionError(f"uv cannot export {file}: {last}", field=field, remedy="mend it, or run `uv lock`")
    return done.stdout


def _uv(field: str) -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise DefinitionError(
            f"a {UV_LOCK} is read by uv, which is not here",
            field=field,
            remedy="install uv, or name what `uv export --format pylock.toml` writes",
        )
    return found
