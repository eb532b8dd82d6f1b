"""Builds a virtual environment with uv: three commands, whose last words are kept.

Where packages come from is uv's own matter: its variables (UV_INDEX_URL, UV_FIND_LINKS, ...) are passed on. Its files
of settings are not read: they would be those of whatever folder the agent's data is in.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from penstock_agent.environments.order import EnvironmentFailed, PythonOrder
from penstock_agent.executors.last_words import last_words
from penstock_agent.executors.processes import MARK, kill_tree

LAST_LINES = 20
LONGEST_LINE = 2_000
READ_BYTES = 64 * 1024
_OPTIONS = ("--no-config", "--color", "never", "--no-progress")
_OWN_VARIABLES = frozenset({"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT"})
"""They would lead uv elsewhere."""


class NoUv(Exception):
    """uv is not there, and what to do about it."""


def find_uv() -> str:
    """Raises `NoUv`."""
    try:
        import uv

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise NoUv("uv is not installed beside the agent: install penstock[agent]") from None


class Uv:
    """`mark` begins the marks of what it starts, which are those of the agent: an agent that dies takes it along."""

    def __init__(self, program: str, env: Mapping[str, str], mark: str, *, downloads_python: bool) -> None:
        self._program = program
        self._mark = mark
        self._started = 0
        self._downloads = ["--python-preference", "system"]
        if not downloads_python:
            self._downloads.append("--no-python-downloads")
        left = {name: value for name, value in env.items() if name not in _OWN_VARIABLES}
        # The agent's own interpreter is found first, and taken if it is one of those that will do.
        path = os.pathsep.join([str(Path(own_interpreter()).parent), env.get("PATH", os.defpath)])
        self._env = {**left, "PATH": path}

    async def build(self, order: PythonOrder, home: Path, told: Callable[[list[str]], None]) -> None:
        """The environment in the new folder `home`. Raises `EnvironmentFailed`; cancelled, nothing of it runs on."""
        python = order.python or own_interpreter()
        where = ["--no-project", "--relocatable", *self._downloads, "--python", python, str(home)]
        await self._run(["venv", *where], told, f"no Python {order.python}" if order.python else "")
        files = home / "penstock"
        files.mkdir()
        command = _installation(order, files)
        if command:
            await self._run([*command, "--python", f"{home}/bin/python"], told)

    async def _run(self, command: Sequence[str], told: Callable[[list[str]], None], about: str = "") -> None:
        self._started += 1
        mark = f"{self._mark}uv-{self._started}:"
        process = await asyncio.create_subprocess_exec(
            self._program,
            *_OPTIONS,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**self._env, MARK: mark},
            start_new_session=True,
        )
        last: deque[str] = deque(maxlen=LAST_LINES)
        try:
            await _listen(process, last, told)
            code = await process.wait()
        except BaseException:
            await asyncio.shield(_kill(process, mark))
            raise
        if code != 0:
            said = last_words("\n".join(last)) or ", without a word"
            what = f"{about}: " if about else ""
            raise EnvironmentFailed(f"{what}`uv {_named(command)}` ended with exit code {code}{said}")


def own_interpreter() -> str:
    """That of the agent, outside of any virtual environment."""
    base: str = getattr(sys, "_base_executable", "") or sys.executable
    return os.path.realpath(base)


def _installation(order: PythonOrder, files: Path) -> list[str]:
    """The command, with the files that it reads; empty: there is nothing to install."""
    if order.lock and order.pylock:
        file = files / "pylock.toml"
        command = ["pip", "sync", "--preview-features", "pylock"]
    elif order.lock:
        file = files / "requirements.txt"
        command = ["pip", "sync", "--require-hashes"]
    else:
        file = files / "requirements.in"
        command = ["pip", "install", "--requirements"]
    file.write_text(order.lock or "".join(f"{each}\n" for each in order.requirements))
    return [*command, str(file)] if order.lock or order.requirements else []


def _named(command: Sequence[str]) -> str:
    return " ".join(command[:2]) if command[0] == "pip" else command[0]


async def _kill(process: asyncio.subprocess.Process, mark: str) -> None:
    """With everything that it started."""
    await asyncio.to_thread(kill_tree, process.pid, mark)
    await process.wait()


async def _listen(process: asyncio.subprocess.Process, last: deque[str], told: Callable[[list[str]], None]) -> None:
    assert process.stdout is not None
    rest = b""
    while data := await process.stdout.read(READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-LONGEST_LINE:]
        _tell(lines, last, told)
    if rest:
        _tell([rest], last, told)


def _tell(lines: list[bytes], last: deque[str], told: Callable[[list[str]], None]) -> None:
    texts = [line[:LONGEST_LINE].decode(errors="replace").rstrip() for line in lines]
    last.extend(texts)
    if texts:
        told(texts)
