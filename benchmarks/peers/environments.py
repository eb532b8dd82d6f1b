"""The environments of the peers, made by uv."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(sys.prefix) / "peers"


class PeerEnvironmentError(Exception):
    """It could not be made; the text is uv's."""


async def environment(name: str, requirements: Sequence[str]) -> Path:
    """The folder of the environment, which is made if it is not there or is for other requirements."""
    folder = ROOT / name
    made_for = folder / "made-for"
    wanted = "\n".join(requirements)
    if not made_for.exists() or made_for.read_text() != wanted:
        await _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        await _uv("pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *requirements)
        made_for.write_text(wanted)
    return folder


async def _uv(*arguments: str) -> None:
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", "")]))
    if uv is None:
        raise PeerEnvironmentError("uv is needed to make it: make setup installs it into .venv, or pip install uv")
    process = await asyncio.create_subprocess_exec(uv, *arguments, stderr=asyncio.subprocess.PIPE)
    _, complaint = await process.communicate()
    if process.returncode:
        raise PeerEnvironmentError(complaint.decode(errors="replace").strip())
