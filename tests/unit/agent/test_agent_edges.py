"""Small parts of the shell: settings, data folder, frames, lists cut into messages, what a trace shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.inputs import Granted
from penstock_agent.core.session import SentTimes
from penstock_agent.executors.channel import CommandWork, FrameBuffer, frame
from penstock_agent.executors.worker.failures import failure_of
from penstock_agent.executors.worker.misplaced_files import where_it_is
from penstock_agent.main import main
from penstock_agent.runtime.data_folder import DataFolder, FolderInUse, FolderUnusable
from penstock_agent.runtime.decoding import Decoder, task_kind
from penstock_agent.runtime.wire import MAX_ITEMS, MAX_MESSAGE_BYTES, UnknownTask, in_messages
from penstock_agent.settings import load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENSTOCK_ADDRESS", "PENSTOCK_AGENT_SLOTS"):
        monkeypatch.delenv(name, raising=False)


def test_settings_come_from_flags_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ADDRESS", "host-a")
    monkeypatch.setenv("PENSTOCK_AGENT_QUEUES", "a, b,a")
    monkeypatch.setenv("PENSTOCK_AGENT_LABELS", "zone=1,kind=x=y")
    monkeypatch.setenv("PENSTOCK_AGENT_RESOURCES", "gpu=2")
    monkeypatch.setenv("PENSTOCK_AGENT_SLOTS", "7")
    settings = load_settings()
    assert (settings.address, settings.queues) == ("host-a:7400", ["a", "b"])
    assert (settings.labels, settings.resources, settings.slots) == ({"zone": "1", "kind": "x=y"}, {"gpu": 2.0}, 7)
    flagged = load_settings({"slots": 3, "address": "host-b:1"})
    assert (flagged.slots, flagged.address) == (3, "host-b:1")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--slots", "0"], "slots"),
        (["-l", "novalue"], "name=value"),
        (["--resource", "gpu=many"], "resources"),
        (["-q", "a b"], "queue"),
        (["--id", "a/b"], "id"),
        (["--address", "host:port"], "host:port"),
    ],
)
def test_a_bad_flag_is_named(flags: list[str], said: str) -> None:
    result = CliRunner().invoke(main, flags)
    assert result.exit_code == 2
    assert said in result.output


def test_a_fault_at_the_start_is_a_line_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text('[agent]\ndata_dir = "/tmp/a\\u0000b"\n')
    command = [sys.executable, "-m", "penstock_agent", "--log-format", "json", "--config", "penstock.toml"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert ended.returncode == 1
    line = json.loads(ended.stderr)
    assert (line["event"], line["level"]) == ("stopped_by_a_fault", "error")
    assert "embedded null byte" in line["exception"]


def test_the_data_folder_keeps_the_name_and_belongs_to_one(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    name = folder.agent_id("")
    assert folder.agent_id("given") == "given"
    (folder.work / "left").write_text("x")
    with pytest.raises(FolderInUse, match="--data-dir"):
        DataFolder(tmp_path / "data")
    folder.close()
    again = DataFolder(tmp_path / "data")
    assert again.agent_id("") == name
    assert list(again.work.iterdir()) == []
    (again.path / "agent-id").write_bytes(b"\xff\n")
    with pytest.raises(FolderUnusable, match="remove it for a new one, or give --id"):
        again.agent_id("")
    again.close()
    with pytest.raises(FolderUnusable, match=r"lock cannot be used .*: let this user write there"):
        DataFolder(tmp_path / "data" / "lock")


@pytest.mark.parametrize(
    ("name", "taken"), [("my agent/1 ü", True), ("x" * 128, True), ("x" * 129, False), ("", False)]
)
def test_a_kept_name_is_what_a_coordinator_takes(tmp_path: Path, name: str, taken: bool) -> None:
    folder = DataFolder(tmp_path)
    (tmp_path / "agent-id").write_text(f"{name}\n", encoding="utf-8")
    if taken:
        assert folder.agent_id("") == name
    else:
        with pytest.raises(FolderUnusable, match="holds no name of an agent"):
            folder.agent_id("")
    folder.close()


@pytest.mark.parametrize(
    ("script", "hint"),
    [
        ("./load.sh", " (./load.sh is not there: a command starts in an empty folder"),
        ("mkdir jobs && cd jobs && ./load.sh", ""),
        ("cat " + "語" * 86 + ".txt ./load.sh", ""),
    ],
)
def test_a_hint_at_a_misplaced_file_is_right_or_left_out(tmp_path: Path, script: str, hint: str) -> None:
    work = CommandWork([], script, [], [], "", {})
    said = where_it_is(work, tmp_path, "sh: 1: not found")
    assert said.startswith(hint) if hint else said == ""


def test_frames_are_found_however_the_bytes_come() -> None:
    payloads = [b"", b"a", b"b" * 70_000]
    data = b"".join(map(frame, payloads))
    for size in (1, 3, 1000, len(data)):
        buffer = FrameBuffer()
        found = [each for at in range(0, len(data), size) for each in buffer.feed(data[at : at + size])]
        assert found == payloads
    with pytest.raises(ValueError, match="frame"):
        FrameBuffer().feed(b"\xff\xff\xff\xff")


def test_lists_are_cut_by_bytes_and_by_count() -> None:
    small = [wire.LeaseRef(token=number) for number in range(MAX_ITEMS * 2 + 1)]
    assert [len(part) for part in in_messages(small)] == [MAX_ITEMS, MAX_ITEMS, 1]
    large = [wire.StepResult(output=b"x" * 300_000) for _ in range(7)]
    parts = list(in_messages(large))
    assert [len(part) for part in parts] == [3, 3, 1]
    for part in parts:
        message = wire.AgentMessage(seq=2**60, results=wire.Results(results=part))
        assert message.ByteSize() <= MAX_MESSAGE_BYTES


def test_an_unknown_kind_of_task_is_refused() -> None:
    with pytest.raises(UnknownTask, match="newer release"):
        task_kind(wire.TaskSpec())


def test_the_lease_of_an_unknown_task_is_rejected_and_no_other() -> None:
    """A coordinator that knows more than this agent loses one lease, and not the stream."""
    spec = wire.TaskSpec(command=wire.CommandTask(argv=["true"]))
    refs = [wire.LeaseRef(run_id=bytes(16), step=step, item=-1, token=7) for step in (0, 1)]
    grants = [
        wire.LeaseGrant(grant_seq=1, lease=refs[0], attempt=1, task=1, task_spec=wire.TaskSpec()),
        wire.LeaseGrant(grant_seq=2, lease=refs[1], attempt=1, task=2, task_spec=spec),
    ]
    message = wire.CoordinatorMessage(lease_grants=wire.LeaseGrants(grants=grants, basis_seq=1))
    granted = Decoder(1).decode(message)
    assert isinstance(granted, Granted)
    assert [grant.refusal and grant.refusal[0] for grant in granted.grants] == ["unsupported_task", None]


def test_sent_times_are_never_later_than_the_truth() -> None:
    sent = SentTimes()
    for seq in range(1, 2_000):
        sent.record(seq, seq * 100)
    assert len(sent) == 200
    at = sent.at(1_005)
    assert at is not None
    assert 1_005 * 100 - 1_000 <= at <= 1_005 * 100
    assert len(sent) < 110
    assert sent.at(5) is None


def test_a_trace_shows_user_code_alone_and_survives_bad_exceptions() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    try:
        raise Hostile
    except Hostile as error:
        failure = failure_of(error, "UserError", str(Path(__file__).parent) + "/")
    assert "cannot be had" in failure.message
    assert 'File "test_agent_edges.py"' in failure.traceback
    assert failure.error_class.endswith("Hostile")
    long = failure_of(ValueError("ä" * 10_000), "UserError")
    assert len(long.message.encode()) <= 8192
