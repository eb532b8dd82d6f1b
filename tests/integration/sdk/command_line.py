"""The command line as a process of its own, against the scripted peer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = REPOSITORY / "examples"
DEADLINE = 120


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def lines(self) -> list[str]:
        return self.out.splitlines()

    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.lines()]


class CommandLine:
    """Runs `python -m penstock` with the peer's address and a configuration folder of its own."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
            "PENSTOCK_ADDRESS": address,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "COLUMNS": "100",
        }

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock",
            *arguments,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **environment: str) -> Result:
        return await self.finish(await self.start(*arguments, **environment))

    async def finish(self, process: asyncio.subprocess.Process) -> Result:
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), err.decode())
