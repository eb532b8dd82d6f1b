"""What the README tells newcomers to type, typed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.clusters import prepared

from penstock.dev.cluster import DevCluster

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def files() -> dict[str, str]:
    """The blocks whose first line is a comment with a file's name."""
    named = [(re.match(r"# ([\w.]+)\n", block), block) for block in blocks("python") + blocks("yaml")]
    return {match[1]: block for match, block in named if match}


def grpcurl_lines() -> list[str]:
    joined = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("grpcurl ")]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[DevCluster]:
    prepared(tmp_path / "data" / "postgres")
    async with DevCluster(tmp_path / "data", agents=1) as cluster:
        yield cluster


async def typed(line: list[str], folder: Path, cluster: DevCluster) -> str:
    environment = {**os.environ, "PENSTOCK_ADDRESS": cluster.address, "PATH": f"{BIN}:{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        *line, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 150)
    except TimeoutError:
        process.kill()
        await process.wait()
        pytest.fail(f"{line} did not end")
    assert process.returncode == 0, f"{line}: {output.decode()}"
    return output.decode()


async def test_python_and_yaml_run_as_they_are_printed(tmp_path: Path, cluster: DevCluster) -> None:
    assert set(files()) == {"letters.py", "count.py", "greet.yaml"}
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    said = await typed(["penstock", "run", "letters.py", "-p", "text=to and fro"], tmp_path, cluster)
    assert "COMPLETED" in said
    run_id = said.split()[1]
    assert re.search(r"output +8\n", await typed(["penstock", "get", run_id, "total"], tmp_path, cluster))
    assert run_id in await typed(["penstock", "list"], tmp_path, cluster)
    assert await typed([sys.executable, "count.py"], tmp_path, cluster) == "8\n"
    said = await typed(["penstock", "run", "greet.yaml"], tmp_path, cluster)
    assert "hello world" in await typed(["penstock", "logs", said.split()[1], "--follow"], tmp_path, cluster)


async def test_grpcurl_lines_work_in_their_order(tmp_path: Path, cluster: DevCluster) -> None:
    run_id = ""
    lines = grpcurl_lines()
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line.replace("127.0.0.1:7400", cluster.address).replace('"RUN"', f'"{run_id}"'))
        said = await typed(words, tmp_path, cluster)
        if words[-1].endswith("RunService/Start"):
            run_id = json.loads(said)["run"]["id"]
    assert "RUN_STATE_COMPLETED" in said
