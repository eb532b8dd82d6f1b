"""A canary secret in more than twenty encodings is nowhere but in the process of the step that names it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tests.clusters import prepared
from tests.e2e.secrets.canaries import dump, found_in
from tests.e2e.secrets.telling import secret_flows
from tests.e2e.secrets.telling.secret_flows import KEPT, OWN, RETURNED, encodings

from penstock import Client
from penstock.dev.cluster import DevCluster
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

VALUES = {
    KEPT: 'kept\'C4nary "of" the/coordinator+ü',
    OWN: "own&C4nary<of>the=agent",
}
pytestmark = pytest.mark.asyncio(loop_scope="module")

VARIABLE = "PENSTOCK_SECRET_CANARY_OWN"
STORED = ("artifacts/sha256/", "coordinator.log", "agent", "postgres")
"""Among the files that are looked through."""
WELL = {"every_way", "gives_harmless", "prints", "reports", "fine", "finds_them", "names_none", "after_all"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevCluster]:
    folder = tmp_path_factory.mktemp("dev")
    prepared(folder / "postgres")
    async with DevCluster(folder, agents=1, environment={VARIABLE: VALUES[OWN]}) as made:
        yield made


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The artifact store, spools, logs of all processes, and the rest; but of PostgreSQL's own the logs alone: what the
    others hold is in the dump, or was."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        rows = inside.parts[0] == "postgres" and "log" not in inside.name
        if path.is_file() and not path.is_symlink() and not rows:
            yield str(inside), path.read_bytes()


def worker_environments(cluster: DevCluster) -> list[bytes]:
    """As the worker processes were started with them."""
    found: list[bytes] = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"executors.worker" in command and str(cluster.folder.path).encode() in command:
                found.append((entry / "environ").read_bytes())
        except OSError:  # it has ended
            continue
    return found


async def test_a_canary_is_nowhere_but_in_the_step(cluster: DevCluster) -> None:
    async with Client(cluster.address) as client:
        await client.set_secret(KEPT, VALUES[KEPT])
        run = await client.start(secret_flows.canary)
        done = await run.wait(200)
        results = [await run.result(name) for name in ("finds_them", "after_all", "names_none")]
        all_steps = [each async for each in client.list_step_runs(run.id)]
        steps = {each.step: each for each in all_steps if each.step != "returns_each"}
        returned = [each async for each in client.list_step_runs(run.id, step="returns_each")]
        kept = [each async for each in client.artifacts.list(run_id=run.id)]
        lines = [line async for line in client.logs(run.id, follow=True)]
        shown = str(done) + str([(await client.get_step_run(run.id, name)) for name in steps])
    failures = {name: each.failure for name, each in steps.items() if each.failure.reason}
    assert {name: failure.reason for name, failure in failures.items()} == {
        "returns": "Secret",
        "returns_much": "Secret",
        "has_none": "Secret",
        "raises": "UserError",
        "raises_much": "UserError",
        "dies": "Crash",
        "shell": "ExitCode",
    }
    assert done.state == run_pb2.RUN_STATE_COMPLETED
    assert steps.keys() - failures.keys() == WELL
    assert [each.failure.reason for each in returned] == ["Secret"] * RETURNED
    assert {each.display_name for each in kept} == {"gives_harmless"}, "of what held a secret nothing is stored"
    assert "'canary-kept', 'canary-own'" in failures["returns"].message
    assert "penstock secrets set canary-nowhere" in failures["has_none"].message
    assert results == [[True] * 6, [True] * 6, []]
    logs = "\n".join(line.text for line in lines)
    assert logs.count("***") >= 6 * len(encodings("")) * 3 / 4
    assert "in a word: password=***;" in logs
    for told in (shown, logs, "".join(str(each) for each in failures.values())):
        assert found_in(told.encode(), VALUES) == []
    assert found_in(await asyncio.to_thread(dump, cluster.database_url), VALUES) == []
    files = dict(files_of(cluster.folder.path))
    for kind in STORED:
        assert any(kind in path for path in files), f"there is no {kind} to look through in {sorted(files)}"
    assert [(path, found) for path, data in files.items() if (found := found_in(data, VALUES))] == []
    environments = worker_environments(cluster)
    assert environments
    assert [found for data in environments if (found := found_in(data, VALUES))] == []


async def test_people_keep_secrets_by_the_command_line(cluster: DevCluster) -> None:
    async def typed(*arguments: str, value: str = "") -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock", "secrets", *arguments),
            env={**os.environ, "PENSTOCK_ADDRESS": cluster.address},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate(value.encode())
        return process.returncode or 0, said.decode()

    assert (await typed("set", "db", value="hunter22\n"))[0] == 0
    assert (await typed("set", "db", value="hunter23"))[0] == 0
    code, listed = await typed("list")
    assert code == 0
    assert "db" in listed
    assert "hunter" not in listed
    code, refused = await typed("set", "short", value="abc\n")
    assert code != 0
    assert "at least 4" in refused
    assert (await typed("rotate"))[1].startswith("0 secrets")
    assert (await typed("delete", "db", "--yes"))[0] == 0
    code, refused = await typed("delete", "db", "--yes")
    assert code != 0
    assert "penstock secrets list" in refused
