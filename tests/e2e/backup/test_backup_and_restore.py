"""The data folder is lost and restored from a backup by the commands of docs/backup.md: what was at rest is there, what
was live goes on, and what the backup has never heard of is gone, also where an agent still runs it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.clusters import prepared
from tests.e2e.backup import backup_flows as flows
from tests.rig.parts import Agent, Coordinator, until

from penstock.client.sync import SyncClient
from penstock.dev.postgres import EmbeddedPostgres
from penstock.dev.postgres_binaries import installed_programs
from penstock.errors import NotFoundError
from penstock.v1 import run_pb2

PAGE = (Path(__file__).parents[3] / "docs" / "backup.md").read_text()
PATIENCE = 120.0
TIMES = {
    "PENSTOCK_HEARTBEAT_INTERVAL": "500ms",
    "PENSTOCK_LEASE_TTL": "5s",
    "PENSTOCK_EXPIRY_MARGIN": "1s",
}


def run_commands(title: str, **given: object) -> None:
    """Those of the block of the page that begins with the title."""
    block = re.search(rf"```sh\n# {title}\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None, title
    path = f"{installed_programs() / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **{name: str(value) for name, value in given.items()}}
    done = subprocess.run(["sh", "-eu", "-c", block[1]], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(900)  # two servers of PostgreSQL and a restore: minutes where all is busy
def test_a_backup_brings_back_what_was_at_rest_and_what_was_live(tmp_path: Path) -> None:
    backup, gate, other_gate = tmp_path / "backup", tmp_path / "gate", tmp_path / "other-gate"
    backup.mkdir()
    data = tmp_path / "coordinator"
    with contextlib.ExitStack() as stack:
        former = EmbeddedPostgres(prepared(tmp_path / "postgres"))
        former.start()
        stack.callback(former.stop)
        coordinator = Coordinator(tmp_path, former.dsn, TIMES)
        coordinator.start()
        stack.callback(coordinator.stop)
        agent = Agent("agent-1", tmp_path / "agents", coordinator.address, slots=4)
        agent.data.parent.mkdir()
        coordinator.wait_ready()
        agent.start()
        stack.callback(agent.stop)

        with SyncClient(coordinator.address) as client:
            at_rest = client.start(flows.with_an_artifact, {"letter": "a"})
            assert at_rest.wait(PATIENCE).state == run_pb2.RUN_STATE_COMPLETED
            live = client.start(flows.that_waits, {"ledger": str(tmp_path / "began"), "path": str(gate)})
            until((tmp_path / "began").exists, PATIENCE, "a run that is under way")
            run_commands("backup", BACKUP=backup, PENSTOCK_DATABASE_URL=former.dsn, PENSTOCK_DATA_DIR=data)
            lost = client.start(flows.that_waits, {"ledger": str(tmp_path / "lost"), "path": str(other_gate)})
            until((tmp_path / "lost").exists, PATIENCE, "a run that the backup does not know")

        coordinator.stop()
        former.stop()
        shutil.rmtree(tmp_path / "postgres")
        shutil.rmtree(data)

        later = EmbeddedPostgres(tmp_path / "postgres")
        later.start()
        stack.callback(later.stop)
        run_commands("restore", BACKUP=backup, PENSTOCK_DATABASE_URL=later.dsn, PENSTOCK_DATA_DIR=data)
        where = {"PENSTOCK_LISTEN": coordinator.address, "PENSTOCK_HTTP_LISTEN": f"127.0.0.1:{coordinator.http_port}"}
        restored = Coordinator(tmp_path, later.dsn, {**TIMES, **where})
        restored.port, restored.http_port = coordinator.port, coordinator.http_port
        restored.start()
        stack.callback(restored.stop)
        restored.wait_ready()

        with SyncClient(restored.address) as client:
            again = client.run(at_rest.id)
            assert again.wait(PATIENCE).state == run_pb2.RUN_STATE_COMPLETED
            assert again.result("large") == "a" * flows.LARGE, "with its artifact"
            with pytest.raises(NotFoundError):
                client.run(lost.id).wait(PATIENCE)
            gate.touch()
            other_gate.touch()
            ended = client.run(live.id).wait(PATIENCE)
            assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
            assert client.run(live.id).result("wait_for") == 2
            after = client.start(flows.with_an_artifact, {"letter": "b"})
            assert after.wait(PATIENCE).state == run_pb2.RUN_STATE_COMPLETED
        assert not agent.exits, "the agent bore it"
