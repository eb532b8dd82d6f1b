"""`make demo`, but for the installation: what a newcomer sees first."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.processes import processes_of
from tests.waiting import until

ROOT = Path(__file__).parents[3]


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.etl.demo", "--data", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


async def none_is_left(folder: Path) -> None:
    """What ends with another process, a guardian's step or the guardian itself, ends a moment later."""

    async def none_left() -> bool:
        return processes_of(folder) == []

    await until(none_left)


async def test_demo_ends_well_shows_its_result_and_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    ended = await asyncio.to_thread(demo, folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = ended.stdout
    assert "load_month EXPANDED (12 items)" in said
    assert re.search(r"weather WAITING \(.*refuses every first call", said)
    assert "weather RUNNING (attempt 2" in said
    assert "run COMPLETED" in said
    assert re.search(r"ExpressJet Airlines Inc\. +│ +54,173 │ +5\.2% │ +31\.1%", said)
    assert re.search(r"all +│ 336,776 │", said)
    assert re.search(r"2/8 +│ 472 of 930", said)
    for line in ("penstock dev --data", "penstock get", "penstock.v1.RunService/Get"):
        assert line in said
    assert {"agent-1", "agent-2"} <= set(re.findall(r"on (agent-\d)", said))
    await none_is_left(folder)
    assert (folder / "postgres").is_dir()


async def test_interrupted_demo_leaves_no_process_either(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.etl.demo", "--data", str(folder)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(150):
        while b"load_month[0] RUNNING" not in await process.stdout.readline():
            assert process.returncode is None
    process.send_signal(signal.SIGINT)
    _, complaint = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 130
    assert complaint == b"demo: interrupted, and everything is stopped\n"
    await none_is_left(folder)
