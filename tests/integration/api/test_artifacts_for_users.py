"""The SDK's client and the command line on artifacts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.api.conftest import Edge, start_edge, stop_edge
from tests.integration.api.test_artifacts_over_the_wire import DATA, MODEL, PART, digest_of, trained
from tests.integration.sdk.command_line import CommandLine

from penstock.client.client import Client
from penstock.errors import ArtifactError, NotFoundError
from penstock_coordinator.adapters.artifacts.opening import open_store
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    opened = await open_store(f"file://{tmp_path}/artifacts", tmp_path, PART)
    stores = memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1, objects=opened.store)
    made = await start_edge(stores, artifacts=opened)
    yield made
    await stop_edge(made)


@pytest.fixture
async def client(edge: Edge) -> AsyncIterator[Client]:
    async with Client(edge.server.address) as opened:
        yield opened


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_the_client_lists_reads_and_traces(edge: Edge, client: Client, tmp_path: Path) -> None:
    run_id, _ = await trained(edge)
    found = [each async for each in client.artifacts.list(run_id=run_id)]
    assert [each.name for each in found] == ["model.bin", "data.csv"]
    assert await client.artifacts.get(found[0].id) == found[0]
    target = tmp_path / "here.bin"
    target.write_bytes(b"former")
    await client.artifacts.download(digest_of(MODEL), target)
    assert target.read_bytes() == MODEL
    lineage = await client.artifacts.lineage(found[0].id)
    assert [each.step for each in lineage.up] == ["train", "load"]
    with pytest.raises(NotFoundError):
        await client.artifacts.download(digest_of(b"absent"), tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


async def test_bytes_that_are_others_become_no_file(edge: Edge, client: Client, tmp_path: Path) -> None:
    await trained(edge)
    name = digest_of(DATA)[7:]
    (tmp_path / "artifacts" / "sha256" / name[:2] / name[2:4] / name).write_bytes(b"9,9,9\n")
    before = names_in(tmp_path)
    with pytest.raises(ArtifactError, match="are not those of"):
        await client.artifacts.download(digest_of(DATA), tmp_path / "here.csv")
    assert names_in(tmp_path) == before


async def test_the_command_line(edge: Edge, tmp_path: Path) -> None:
    run_id, _ = await trained(edge)
    folder = tmp_path / "cwd"
    folder.mkdir()
    penstock = CommandLine(edge.server.address, folder)
    listed = await penstock.run("artifacts", "list", "--run", run_id[-12:])
    assert [line.split()[1] for line in listed.lines()] == ["NAME", "model.bin", "data.csv"]
    (only,) = (await penstock.run("artifacts", "list", "--step", "train", "--json")).json_lines()
    shown = await penstock.run("artifacts", "get", only["id"].rpartition("-")[2])  # the end of the run's id
    assert digest_of(MODEL) in shown.out
    assert "train, attempt 1" in shown.out
    done = await penstock.run("artifacts", "download", only["id"])
    assert (done.code, (folder / "model.bin").read_bytes()) == (0, MODEL)
    again = await penstock.run("artifacts", "download", only["id"])
    assert (again.code, "is there already" in again.err) == (1, True)
    assert (await penstock.run("artifacts", "download", only["id"], "--force")).code == 0
    assert (await penstock.run("artifacts", "download", only["digest"], "-o", "other.bin")).code == 0
    traced = await penstock.run("artifacts", "lineage", only["id"], "--up")
    assert [line.strip().split(",")[0] for line in traced.lines() if "attempt" in line] == ["ml@1 train", "ml@1 load"]
    assert "taken by" not in traced.out
    as_json = await penstock.run("artifacts", "lineage", only["id"], "--json")
    assert [each["step"] for each in json.loads(as_json.out)["up"]] == ["train", "load"]
    absent = await penstock.run("artifacts", "get", digest_of(b"absent"))
    assert (absent.code, "penstock artifacts list" in absent.err) == (2, True)
