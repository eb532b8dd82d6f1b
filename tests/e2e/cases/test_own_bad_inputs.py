"""Bad inputs of our own, each against the system as it runs, and what looks odd and is right."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.e2e.cases.bad_input_words import base
from tests.e2e.cases.own_bad_inputs import OWN_BAD_INPUTS, accepted
from tests.e2e.system.conftest import until

from penstock import errors, yaml_format
from penstock.v1 import pipeline_service_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.cases.raw_calls import RawChannel
    from tests.e2e.system.conftest import DevSystem

    from penstock.client.sync import SyncClient

AREAS = sorted({name.partition(":")[0] for name in OWN_BAD_INPUTS})
SECONDS, LARGE_SECONDS, LARGE_BYTES = 5.0, 30.0, 10 << 20
MESSAGE_BYTES = 4_096
LEFT_BYTES = 50 << 20
"""Without what gives memory back it was as much, and 280 MB when requests lived on in the errors that they led to."""
_INSIDES = re.compile(r"Traceback|File \"|asyncpg|SELECT |INSERT |site-packages|/penstock_coordinator/")


@pytest.fixture(scope="module", autouse=True)
def memory(system: DevSystem) -> Iterator[None]:
    """What was refused leaves nothing behind, in the memory of the coordinator either: requests have up to 40 MB."""
    with system.client() as client:
        client.create_pipeline(base())
    process = psutil.Process(system.pid("coordinator"))
    before = process.memory_info().rss
    yield
    assert process.is_running()
    until(lambda: process.memory_info().rss - before < LEFT_BYTES, 60.0)


@pytest.mark.parametrize("area", AREAS)
def test_bad_inputs(raw: RawChannel, client: SyncClient, unchanged: Callable[[], None], area: str) -> None:
    wrong = []
    for name, (method, request, code, field) in OWN_BAD_INPUTS.items():
        if name.partition(":")[0] != area:
            continue
        size = len(request) if isinstance(request, bytes) else request.ByteSize()
        answer = raw.call(method, request)
        faults = [
            answer.code != code,
            bool(field) and not answer.names(field),
            answer.seconds > (LARGE_SECONDS if size >= LARGE_BYTES else SECONDS),
            len(answer.message.encode()) >= MESSAGE_BYTES,
            _INSIDES.search(answer.message) is not None,
        ]
        if any(faults):
            wrong.append(f"{name}: expected {code} {field}, got {answer}"[:700])
    assert wrong == []
    unchanged()
    run = client.start("own-base", {"n": 4}, request_id=str(uuid.uuid4()))
    assert run.wait(60.0).state == run_pb2.RUN_STATE_COMPLETED, "the next valid request is served"


def test_what_looks_odd_and_is_right(client: SyncClient, system: DevSystem) -> None:
    started = {}
    for name, change in accepted().items():
        spec = base()
        spec.name = "own-odd"
        change(spec)
        version = client.create_pipeline(spec)
        assert client.get_pipeline("own-odd", version.number).version.spec == spec, f"{name}: it is kept as it came"
        started[name] = client.start("own-odd", version=version.number)
    ended = {name: run.wait(60.0) for name, run in started.items()}
    assert {name: run.reason for name, run in ended.items() if run.state != run_pb2.RUN_STATE_COMPLETED} == {}
    assert not list(system.data.rglob("pwned.flag"))
    assert not list(Path.cwd().glob("pwned.flag"))


def test_fields_that_nobody_knows_are_answered_like_none(raw: RawChannel) -> None:
    """What a newer client sends beyond what this server knows does no harm."""
    request = pipeline_service_pb2.GetPipelineRequest(name="own-base").SerializeToString()
    answer = raw.call("PipelineService/Get", request + b"\xfa\x3f\x03new")
    assert answer.code == "OK", answer


@pytest.mark.parametrize(
    ("text", "words"),
    {
        "a step twice": ("name: p\nsteps:\n  a: {command: [x]}\n  a: {command: [y]}\n", ["a", "line 4"]),
        "a member twice": ("name: p\nname: q\nsteps:\n  a: {command: [x]}\n", ["name", "line 2"]),
        "a variable twice": ("name: p\nsteps:\n  a: {command: [x], env: {A: '1', A: '2'}}\n", ["A", "line 3"]),
        "a member that is unknown": ("name: p\nsteps:\n  a: {command: [x], retires: 3}\n", ["retires"]),
        "an object of Python": ("name: !!python/object/apply:os.system ['true']\nsteps: {}\n", ["name"]),
        "a number of billions of laughs": (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)),
            [],
        ),
        "nothing": ("", []),
        "a list": ("- a\n- b\n", []),
        "two documents": ("name: p\n---\nname: q\n", []),
        "a NaN": ("name: p\nsteps:\n  a: {command: [x], retry: {jitter: .nan}}\n", ["jitter"]),
        "a date for a name": ("name: 12\nsteps:\n  a: {command: [x]}\n", ["name"]),
    }.values(),
)
def test_bad_yaml(tmp_path: Path, text: str, words: list[str], client: SyncClient) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(errors.PenstockError) as refused:
        submit_yaml(client, path)
    for word in words:
        assert word in str(refused.value)
    assert len(str(refused.value)) < MESSAGE_BYTES


def submit_yaml(client: SyncClient, path: Path) -> Any:
    return client.create_pipeline(yaml_format.load(path.read_text()))
