"""The stand-in for msgspec reads what msgspec writes, and writes what that reads, of all that workers say and hear."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_agent.executors import channel
from penstock_agent.executors.bare.messages import stand_in


def _bare_channel() -> ModuleType:
    """The channel as a worker in a bare Python imports it."""
    spec = importlib.util.spec_from_file_location("bare_channel", channel.__file__)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules["bare_channel"] = importlib.util.module_from_spec(spec)
    own, sys.modules["msgspec"] = sys.modules["msgspec"], stand_in()
    try:
        spec.loader.exec_module(made)
    finally:
        sys.modules["msgspec"] = own
    return made


BARE: Any = _bare_channel()
WORDS = stand_in()


def plain(value: Any) -> Any:
    """Of a struct of either kind: its class and its fields."""
    fields = getattr(value, "__struct_fields__", None)
    if fields is not None:
        return (type(value).__name__, [plain(getattr(value, name)) for name in fields])
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return {key: plain(each) for key, each in value.items()} if isinstance(value, dict) else value


TASK = channel.Task(
    handle=7,
    deadline=2**62,
    work=channel.FunctionWork("m", "f"),
    run_id="r",
    pipeline="p",
    step="s",
    place=[0, 300, 70_000],
    attempt=1,
    idempotency_key="k",
    inputs={"a": b"1", "b": b"x" * 70_000},
    parameters=b"{}",
    trace_context={"traceparent": "\u00e4" * 40},
    max_output_bytes=2**32,
    allow_pickle=True,
    files={"sha256:00": "/tmp/x"},
    secrets=[channel.GivenSecret("n", "v", "E", "")],
)
COMMAND = msgspec.structs.replace(
    TASK,
    work=channel.CommandWork(
        ["a"], "", [channel.OutputSource("o", False, "f", True)], [0, -1], "/b", {"A": "1"}, {"x": "y"}
    ),
)
SAID = [
    channel.Ready(),
    channel.Refused(9),
    channel.Finished(1),
    channel.Finished(
        2**40,
        b"{}" * 200,
        channel.Failure("Crash", "m" * 70_000, "E", ["A", "B"], "t"),
        stopped=True,
        run_time=-1,
        cpu_time=-(2**40),
        exit_code=3,
        metrics={"loss": 0.5},
        metadata={"a": "b"},
        artifacts=[channel.Produced("p", "n", "d", 1, "m", "file", "", b"")],
    ),
    channel.LogLines(1, [(1, 2, 3, "text")] * 20),
]


@pytest.mark.parametrize("task", [TASK, COMMAND])
def test_a_task_that_msgspec_writes_is_read(task: channel.Task) -> None:
    packet, file = channel.write_packet(msgspec.structs.replace(task, inputs={"a": b"1"}), sys.modules)  # type: ignore[arg-type]  # no file is needed
    assert file is None
    assert plain(BARE.read_packet(packet)) == plain(channel.read_packet(packet))


def test_a_large_task_comes_in_a_file_and_its_secrets_do_not(tmp_path: Any) -> None:
    packet, file = channel.write_packet(TASK, tmp_path)
    assert file is not None
    assert plain(BARE.read_packet(packet)) == plain(TASK)


def test_what_a_worker_does_not_know_yet_is_left_out() -> None:
    data = msgspec.msgpack.encode([*msgspec.msgpack.decode(msgspec.msgpack.encode(TASK)), "more", {"of": "it"}])
    assert plain(WORDS.msgpack.Decoder(BARE.Task).decode(data)) == plain(TASK)


def test_what_is_not_said_is_as_declared() -> None:
    data = msgspec.msgpack.encode(msgspec.msgpack.decode(msgspec.msgpack.encode(TASK))[:13])
    task = WORDS.msgpack.Decoder(BARE.Task).decode(data)
    assert (task.inline_output_bytes, task.files, task.secrets) == (0, {}, [])


@pytest.mark.parametrize("said", SAID, ids=lambda said: type(said).__name__)
def test_msgspec_reads_what_a_worker_says(said: Any) -> None:
    def bare(value: Any) -> Any:
        if isinstance(value, msgspec.Struct):
            return getattr(BARE, type(value).__name__)(*(bare(each) for each in msgspec.structs.astuple(value)))
        return [bare(each) for each in value] if isinstance(value, list) else value

    kind = channel.LogLines if isinstance(said, channel.LogLines) else channel.FromWorker
    data = WORDS.msgpack.Encoder().encode(bare(said))
    assert msgspec.msgpack.decode(data, type=kind) == said


def test_the_setup_comes_as_json() -> None:
    setup = channel.Setup(1, 2, 3, 4, 5, 6, 7, "/w", "/b", "/o", 8, 9)
    data = msgspec.json.encode(setup).decode()
    assert plain(WORDS.json.decode(data, type=BARE.Setup)) == plain(setup)


def test_fields_are_replaced_in_a_copy() -> None:
    first = BARE.Failure("a", "b")
    second = WORDS.structs.replace(first, message="c")
    assert (first.message, second.message, second.reason) == ("b", "c", "a")
    assert first.error_bases is not second.error_bases or first.error_bases == []


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xd9\x05abc", b"\x92\x01", b"\xcf\x01"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ends too early|begins no value"):
        WORDS.msgpack.Decoder().decode(data)


def test_a_word_of_an_unknown_kind_is_refused() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(TASK))
    fields[2] = ["dream", "m", "f"]
    with pytest.raises(ValueError, match="unknown kind: 'dream'"):
        WORDS.msgpack.Decoder(BARE.Task).decode(msgspec.msgpack.encode(fields))


def values() -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
    numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    single: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), numbers, text, st.binary(max_size=300))
    return st.recursive(single, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner))


@settings(max_examples=50, deadline=None)
@given(values())
def test_both_read_what_either_writes(value: Any) -> None:
    theirs, ours = msgspec.msgpack.encode(value), WORDS.msgpack.Encoder().encode(value)
    assert WORDS.msgpack.Decoder().decode(theirs) == value
    assert msgspec.msgpack.decode(ours) == value


@pytest.fixture(autouse=True, scope="module")
def _forget() -> Iterator[None]:
    yield
    del sys.modules["bare_channel"]
