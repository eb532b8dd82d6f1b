"""Artifacts of attempts: the real agent and its workers against a scripted coordinator with a store over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent.artifact_store import ArtifactStore
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator, seconds
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire

STEPS = """
import os, pathlib, pickle
import numpy, pandas, polars, pyarrow
from penstock import Artifact, register_codec

class Point:
    def __init__(self, x): self.x = x

def write_point(point, path): path.write_text(str(point.x))
def read_point(path): return Point(int(path.read_text()))
register_codec("point", Point, write=write_point, read=read_point)

class Model:
    def __init__(self, weight): self.weight = weight

def frames():
    rows = {"a": [1, 2, 3], "b": ["x", "y", None]}
    return {
        "pandas": pandas.DataFrame(rows, index=["p", "q", "r"]),
        "series": pandas.Series([1.5, 2.5], name="s"),
        "polars": polars.DataFrame(rows),
        "arrow": pyarrow.table(rows),
        "numpy": numpy.arange(12).reshape(3, 4),
        "bytes": b"\\x00\\xff",
        "point": [Point(7)],
        "text": Artifact.value("plain", codec="text"),
        "json": Artifact.value({"deep": [pandas.DataFrame({"z": [9]})]}),
        "small": 1,
    }

def look(values):
    types = {name: type(value) for name, value in values.items()}
    return {
        "kinds": {name: each.__module__.partition(".")[0] + "." + each.__name__ for name, each in types.items()},
        "pandas": [list(values["pandas"].index), list(values["pandas"]["a"])],
        "series": [values["series"].name, list(values["series"])],
        "polars": values["polars"].rows(),
        "arrow": values["arrow"].to_pydict(),
        "numpy": values["numpy"].tolist(),
        "bytes": list(values["bytes"]),
        "point": values["point"][0].x,
        "deep": int(values["json"]["deep"][0]["z"][0]),
    }

def files(size):
    pathlib.Path("own.bin").write_bytes(os.urandom(1000) * (size // 1000))
    outside = pathlib.Path(os.environ["STEP_FOLDER"]) / "outside.csv"
    outside.write_text("a,b\\n1,2\\n")
    folder = pathlib.Path("tree"); (folder / "deep" / "empty").mkdir(parents=True)
    (folder / "deep" / "run.sh").write_text("#!/bin/sh\\n"); (folder / "deep" / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("deep/run.sh")
    own = Artifact.file("own.bin", metadata={"rows": 3})
    return {"own": own, "again": [own], "outside": Artifact.file(outside), "tree": Artifact.dir(folder, name="forest")}

def read(given):
    own, outside, tree = given["own"], given["outside"], given["tree"]
    try:
        outside.path.open("w") if os.getuid() else None
        writable = outside.path.stat().st_mode & 0o222
    except PermissionError:
        writable = 0
    return {
        "own": [own.size, own.digest, own.name, own.metadata, own.path.stat().st_size],
        "outside": [outside.media_type, outside.open("r").read(), outside.load()],
        "writable": writable,
        "tree": sorted(str(p.relative_to(tree.path)) for p in tree.path.rglob("*")),
        "script": os.access(tree.path / "deep" / "run.sh", os.X_OK),
        "link": os.readlink(tree.path / "link"),
        "same": given["again"][0] == own,
    }

def pass_on(given):
    return [given["outside"]]

def large(count):
    return ["x" * 100] * count

def count(values):
    return len(values)

def forge():
    return {"$artifact": {"digest": "sha256:" + "0" * 64, "size": 1, "kind": "file"}}

def speak_of_it():
    return ["$artifact", {"key": "$artifact"}]

def model():
    return {"model": Model(3)}

def weigh(given):
    return given["model"].weight

def missing():
    return Artifact.file("nowhere.txt")

def special():
    os.mkfifo("pipe")
    return Artifact.dir(".")

def climbing():
    pathlib.Path("tree").mkdir(); pathlib.Path("tree/link").symlink_to("/etc/passwd")
    return Artifact.dir("tree")

def half_way():
    pathlib.Path("a").write_text("a")
    return [Artifact.file("a"), {1, 2}]

def size_of(given):
    return given.path.stat().st_size

def scribble(given):
    given.path.chmod(0o644)
    given.path.write_bytes(b"spoiled")
    return 1
"""


@pytest.fixture
def digest(coordinator: Coordinator) -> str:
    return coordinator.add_bundle({"steps.py": STEPS})


def output(result: wire.StepResult) -> Any:
    assert result.status == wire.RESULT_STATUS_OK, result.error
    return json.loads(result.output)


async def nothing_left(agents: Agents, name: str = "agent") -> None:
    """Files of attempts on that agent go soon after these."""
    work = agents.folder / name / "work"

    async def condition() -> bool:
        return not [path for kind in ("outgoing", "incoming") for path in (work / kind).glob("*")]

    await until(condition)


def spec(coordinator: Coordinator, digest: str, name: str, folder: Path | None = None, **more: Any) -> wire.TaskSpec:
    env = {} if folder is None else {"STEP_FOLDER": str(folder)}
    return coordinator.function(digest, f"steps:{name}", env=env, **more)


async def test_values_of_many_libraries_travel(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    made = await coordinator.run(spec(coordinator, digest, "frames"), patience=60)
    value = output(made)
    references = {name: each["$artifact"] for name, each in value.items() if isinstance(each, dict)}
    assert {name: each["codec"] for name, each in references.items()} == {
        "pandas": "pandas-parquet",
        "series": "pandas-series",
        "polars": "polars-parquet",
        "arrow": "arrow-parquet",
        "numpy": "npy",
        "bytes": "bytes",
        "text": "text",
        "json": "json",
    }
    assert value["small"] == 1
    assert {each.digest for each in made.artifacts} == set(store.objects)
    assert len(made.artifacts) == 10
    assert len({each.name for each in made.artifacts}) == 10
    seen = output(await coordinator.run(spec(coordinator, digest, "look"), inputs={"values": value}, patience=60))
    assert seen.pop("kinds") == {
        "pandas": "pandas.DataFrame", "series": "pandas.Series", "polars": "polars.DataFrame",
        "arrow": "pyarrow.Table", "numpy": "numpy.ndarray", "bytes": "builtins.bytes", "point": "builtins.list",
        "text": "builtins.str", "json": "builtins.dict", "small": "builtins.int",
    }  # fmt: skip
    assert seen == {
        "pandas": [["p", "q", "r"], [1, 2, 3]],
        "series": ["s", [1.5, 2.5]],
        "polars": [[1, "x"], [2, "y"], [3, None]],
        "arrow": {"a": [1, 2, 3], "b": ["x", "y", None]},
        "numpy": [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
        "bytes": [0, 255],
        "point": 7,
        "deep": 9,
    }


async def test_files_and_folders_travel_between_agents(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore, tmp_path: Path
) -> None:
    first = await agents.start(slots=1, name="first")
    made = await coordinator.run(
        spec(coordinator, digest, "files", tmp_path), inputs={"size": 5_000_000}, credential="secret of the lease"
    )
    value = output(made)
    assert store.credentials == {"secret of the lease"}
    assert made.bytes_moved == store.received_bytes == sum(map(len, store.objects.values()))
    assert [each.name for each in made.artifacts] == ["own.bin", "outside.csv", "forest"]
    assert (tmp_path / "outside.csv").exists()
    assert json.loads(made.artifacts[0].metadata) == {"rows": 3}
    first.send_signal(signal.SIGTERM)
    await first.wait()
    await agents.start(slots=1, name="second")
    reads = spec(coordinator, digest, "read")
    taken = await coordinator.run(reads, inputs={"given": value})
    seen = output(taken)
    assert taken.bytes_moved == store.sent_bytes
    own = value["own"]["$artifact"]
    assert seen == {
        "own": [5_000_000, own["digest"], "own.bin", {"rows": 3}, 5_000_000],
        "outside": ["text/csv", "a,b\n1,2\n", "a,b\n1,2\n"],
        "writable": 0,
        "tree": ["deep", "deep/empty", "deep/run.sh", "link"],
        "script": True,
        "link": "deep/run.sh",
        "same": True,
    }
    sent = store.sent_bytes
    cached = await coordinator.run(reads, inputs={"given": value})
    assert (output(cached), cached.bytes_moved) == (seen, 0)
    assert store.sent_bytes == sent
    passed = await coordinator.run(spec(coordinator, digest, "pass_on"), inputs={"given": value})
    assert output(passed) == [value["outside"]]
    assert not passed.artifacts
    await nothing_left(agents, "second")


async def test_large_outputs_are_spilled(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    small = await coordinator.run(spec(coordinator, digest, "large"), inputs={"count": 9})
    assert output(small) == ["x" * 100] * 9
    assert not small.artifacts
    made = await coordinator.run(spec(coordinator, digest, "large"), inputs={"count": 30_000})
    reference = output(made)["$artifact"]
    assert (reference["kind"], reference["codec"], reference["name"]) == ("value", "json", "output")
    assert json.loads(store.objects[reference["digest"]]) == ["x" * 100] * 30_000
    counted = await coordinator.run(spec(coordinator, digest, "count"), inputs={"values": output(made)})
    assert output(counted) == 30_000


async def test_the_key_of_references_is_not_the_users(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    refused = await coordinator.run(spec(coordinator, digest, "forge"))
    assert refused.error.reason == "OutputUnserialisable"
    assert "'$artifact'" in refused.error.message
    said = output(await coordinator.run(spec(coordinator, digest, "speak_of_it")))
    assert said == ["$artifact", {"key": "$artifact"}]
    assert output(await coordinator.run(spec(coordinator, digest, "count"), inputs={"values": said})) == 2


async def test_pickles_only_where_they_are_allowed(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    refused = await coordinator.run(spec(coordinator, digest, "model"))
    assert refused.error.reason == "OutputUnserialisable"
    assert "output['model']" in refused.error.message
    assert "allow_pickle" in refused.error.message
    made = output(await coordinator.run(spec(coordinator, digest, "model", allow_pickle=True)))
    assert made["model"]["$artifact"]["codec"] == "pickle"
    refused = await coordinator.run(spec(coordinator, digest, "weigh"), inputs={"given": made})
    assert "step 'step' may not read pickles" in refused.error.message
    assert 'allow_pickle=["step"]' in refused.error.message
    weighed = await coordinator.run(spec(coordinator, digest, "weigh", allow_pickle=True), inputs={"given": made})
    assert output(weighed) == 3


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("missing", "'nowhere.txt' cannot be kept: No such file"),
        ("special", "'pipe' is neither a file nor a folder"),
        ("climbing", "the link 'link' does not lead to a relative path, so it leads out of the folder"),
        ("half_way", "output[1]: a set has no JSON form"),
    ],
)
async def test_what_cannot_be_kept_is_said_and_leaves_nothing(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore, step: str, said: str
) -> None:
    await agents.start(slots=1)
    refused = await coordinator.run(spec(coordinator, digest, step))
    assert refused.error.reason == "OutputUnserialisable"
    assert said in refused.error.message
    await nothing_left(agents)
    assert not store.objects


async def test_an_upload_goes_on_after_cuts(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore, tmp_path: Path
) -> None:
    await agents.start(slots=1)
    store.broken_puts, store.expired_urls = 2, 1
    made = await coordinator.run(spec(coordinator, digest, "files", tmp_path), inputs={"size": 8_000_000})
    reference = output(made)["own"]["$artifact"]
    assert len(store.objects[reference["digest"]]) == 8_000_000
    stored = sum(map(len, store.objects.values()))
    assert store.received_bytes < stored + 3 * store.part_size, "whole parts were sent again"


async def test_a_download_goes_on_after_cuts_and_is_checked(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    data = os.urandom(1 << 20) * 40
    kept = store.add(data)
    given = {"$artifact": {"digest": kept, "size": len(data), "kind": "file", "name": "data.bin"}}
    store.broken_gets, store.expired_urls = 2, 1
    sizes = spec(coordinator, digest, "size_of")
    assert output(await coordinator.run(sizes, inputs={"given": given})) == len(data)
    assert store.sent_bytes < len(data) * 1.5
    other = store.add(os.urandom(1000))
    store.spoiled_gets = 1
    given = {"$artifact": {"digest": other, "size": 1000, "kind": "file", "name": "data.bin"}}
    assert output(await coordinator.run(sizes, inputs={"given": given})) == 1000
    store.spoiled_gets = 1000
    third = store.add(os.urandom(1000))
    given = {"$artifact": {"digest": third, "size": 1000, "kind": "file", "name": "data.bin"}}
    refused = await coordinator.run(sizes, inputs={"given": given})
    assert refused.error.reason == "ArtifactStore"
    assert "another digest" in refused.error.message
    assert refused.bytes_moved >= 1000, "what an attempt moved in vain counts too"
    fourth = store.add(os.urandom(1000))
    wrong = {"$artifact": {"digest": fourth, "size": 1000, "kind": "file", "name": "data.bin"}}
    store.spoiled_gets = 0
    failed = await coordinator.run(spec(coordinator, digest, "look"), inputs={"values": wrong})
    assert (failed.status, failed.bytes_moved) == (wire.RESULT_STATUS_FAILED, 1000)
    await nothing_left(agents)


async def test_what_the_coordinator_refuses_fails_the_attempt(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    sizes = spec(coordinator, digest, "size_of")
    kept = store.add(b"data")
    given = {"$artifact": {"digest": kept, "size": 4, "kind": "file", "name": "data.bin"}}
    assert output(await coordinator.run(sizes, inputs={"given": given})) == 4
    store.denied.add(kept)
    refused = await coordinator.run(sizes, inputs={"given": given})
    assert (refused.error.reason, "the run has no artifact" in refused.error.message) == ("ArtifactStore", True)
    gone = {"$artifact": {"digest": "sha256:" + "0" * 64, "size": 4, "kind": "file", "name": "data.bin"}}
    refused = await coordinator.run(sizes, inputs={"given": gone})
    assert "was removed" in refused.error.message
    malformed = await coordinator.run(sizes, inputs={"given": {"$artifact": {"digest": "../../etc"}}})
    assert "malformed reference" in malformed.error.message


async def test_a_spoiled_copy_is_fetched_anew(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    kept = store.add(b"the original")
    given = {"$artifact": {"digest": kept, "size": 12, "kind": "file", "name": "data.bin"}}
    assert output(await coordinator.run(spec(coordinator, digest, "scribble"), inputs={"given": given})) == 1
    assert output(await coordinator.run(spec(coordinator, digest, "size_of"), inputs={"given": given})) == 12


async def test_a_store_that_is_away_is_waited_for(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    store.away = True
    (ref,) = await coordinator.grant(spec(coordinator, digest, "large"), inputs={"count": 1000})
    await coordinator.until(lambda: store.calls["begin"] >= 3)
    assert not coordinator.results
    store.away = False
    assert "$artifact" in output(await coordinator.result(ref))


async def test_a_store_that_stays_away_fails_the_attempt(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_ARTIFACT_PATIENCE", "1")
    await agents.start(slots=1)
    store.away = True
    failed = await coordinator.run(spec(coordinator, digest, "large"), inputs={"count": 1000})
    assert (failed.status, failed.error.reason) == (wire.RESULT_STATUS_FAILED, "ArtifactStore")
    assert "503" in failed.error.message
    assert not failed.output
    await nothing_left(agents)


async def test_a_cancelled_attempt_ends_its_transfers(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    """While it uploads, and while it waits for its inputs."""
    await agents.start(slots=1)
    store.held.clear()
    (ref,) = await coordinator.grant(spec(coordinator, digest, "large"), inputs={"count": 1000})
    await asyncio.wait_for(store.begun.wait(), 60)
    await coordinator.cancel(ref, 5)
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_CANCELLED
    store.begun.clear()
    given = {"$artifact": {"digest": store.add(b"data"), "size": 4, "kind": "file", "name": "data.bin"}}
    (ref,) = await coordinator.grant(spec(coordinator, digest, "size_of"), inputs={"given": given})
    await asyncio.wait_for(store.begun.wait(), 60)
    await coordinator.cancel(ref, 5)
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_CANCELLED
    store.held.set()
    assert output(await coordinator.run(spec(coordinator, digest, "size_of"), inputs={"given": given})) == 4
    await nothing_left(agents)


async def test_heartbeats_say_that_inputs_are_being_fetched(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    """So that the attempt is not given to an idle agent, which would fetch them anew."""
    await agents.start(slots=1)
    store.held.clear()
    given = {"$artifact": {"digest": store.add(b"data"), "size": 4, "kind": "file", "name": "data.bin"}}
    (ref,) = await coordinator.grant(spec(coordinator, digest, "size_of"), inputs={"given": given})

    def notes() -> list[str]:
        beats = [word.heartbeat for word in coordinator.session.heard if word.HasField("heartbeat")]
        return [lease.note for lease in beats[-1].leases] if beats else []

    await coordinator.until(lambda: notes() == ["its inputs are being fetched"])
    store.held.set()
    assert output(await coordinator.result(ref)) == 4


async def test_the_timeout_of_an_attempt_covers_its_upload(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    await coordinator.run(spec(coordinator, digest, "speak_of_it"))
    store.held.clear()
    timed = spec(coordinator, digest, "large", attempt_timeout=seconds(3), stop_grace=seconds(0.1))
    late = await coordinator.run(timed, inputs={"count": 1000})
    assert late.status == wire.RESULT_STATUS_TIMED_OUT


async def test_commands_take_and_leave_files(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore
) -> None:
    await agents.start(slots=1)
    script = """
        test "$PENSTOCK_INPUT_CONFIG" = "$PWD/in/config.json"
        cat in/config.json plain.txt "$PENSTOCK_INPUT_OTHER" in/data.bin > all.txt
        mkdir -p tree/deep && echo deep > tree/deep/file
        seq 20000 > numbers
    """
    task = wire.CommandTask(
        shell=script,
        input_files={"config": "in/config.json", "text": "plain.txt", "data": "in/data.bin"},
        outputs=[
            wire.CommandTaskOutput(name="all", file="all.txt", artifact=True),
            wire.CommandTaskOutput(name="tree", file="tree", artifact=True),
            wire.CommandTaskOutput(name="numbers", file="numbers"),
        ],
    )

    def file(data: bytes) -> dict[str, Any]:
        return {"$artifact": {"digest": store.add(data), "size": len(data), "kind": "file", "name": "x"}}

    made = await coordinator.run(
        wire.TaskSpec(command=task),
        inputs={"config": {"a": [1]}, "text": "ä\n", "data": file(b"data"), "other": file(b"other")},
    )
    value = json.loads(store.objects[output(made)["$artifact"]["digest"]])
    assert value["numbers"].splitlines()[-1] == "20000"
    assert store.objects[value["all"]["$artifact"]["digest"]].decode() == '{"a": [1]}ä\notherdata'
    assert value["all"]["$artifact"]["media_type"] == "text/plain"
    assert value["tree"]["$artifact"]["kind"] == "dir"
    again = wire.CommandTask(
        shell="cat tree/deep/file; ls -l tree", input_files={"tree": "tree"},
        outputs=[wire.CommandTaskOutput(name="said", stdout=True)],
    )  # fmt: skip
    seen = await coordinator.run(wire.TaskSpec(command=again), inputs={"tree": value["tree"]})
    assert output(seen)["said"].startswith("deep")
    missing = wire.CommandTask(shell="true", outputs=[wire.CommandTaskOutput(name="x", file="nowhere", artifact=True)])
    refused = await coordinator.run(wire.TaskSpec(command=missing))
    assert "there is no file or folder 'nowhere'" in refused.error.message


async def test_the_cache_is_bounded(
    coordinator: Coordinator, agents: Agents, digest: str, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_ARTIFACT_CACHE_BYTES", "2500")
    await agents.start(slots=1)
    for number in range(5):
        data = bytes([number]) * 1000
        given = {"$artifact": {"digest": store.add(data), "size": 1000, "kind": "file", "name": "x"}}
        assert output(await coordinator.run(spec(coordinator, digest, "size_of"), inputs={"given": given})) == 1000
    kept = [path for path in (agents.folder / "agent" / "artifacts").iterdir() if len(path.name) == 64]
    assert len(kept) == 2
