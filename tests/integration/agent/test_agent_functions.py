"""Python functions as steps: through the real agent, in real worker processes."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import WITHIN, Coordinator, seconds
from tests.integration.agent.processes import gone, is_alive, line_of, touch, written

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.pool import HAND_BACK_AFTER

STEPS = '''
import array, asyncio, dataclasses, datetime, fcntl, os, pathlib, signal, subprocess, sys, termios, time

def add(a, b):
    return a + b

def nothing():
    pass

def fill(size):
    return len(bytearray(b"x" * size))

async def wait_and_add(a, b):
    await asyncio.sleep(0.01)
    return a + b

@dataclasses.dataclass
class Row:
    day: datetime.date
    path: pathlib.Path

def rows():
    return [Row(datetime.date(2026, 1, 2), pathlib.Path("x")), (1, "ä")]

class Broken(ValueError):
    pass

def fail(text):
    raise Broken(text)

def leave():
    sys.exit(3)

def abort():
    print("last words on stdout")
    print("last words on stderr", file=sys.stderr)
    sys.stdout.flush()
    os.abort()

def taken(text):
    sys.stderr.write(text)
    sys.stderr.flush()
    waiting = array.array("i", [1])
    while waiting[0]:
        fcntl.ioctl(2, termios.FIONREAD, waiting)
    os._exit(7)

def vanish():
    os._exit(7)

def unserialisable():
    return {"rows": [1, {"value": {1, 2}}]}

def not_a_number():
    return {"a": [float("nan")]}

def large():
    return "x" * 100_000

def print_much(size):
    line = "x" * 9_999
    for _ in range(size // 10_000):
        print(line)
    return "printed"

def environment():
    env = {name: value for name, value in os.environ.items() if name.startswith(("PENSTOCK_", "TRACE", "STEP_"))}
    os.environ["LEFT_OVER"] = "1"
    os.chdir("/")
    return env

def left_over():
    return [os.environ.get("LEFT_OVER"), os.getcwd() == os.environ["PENSTOCK_WORK_DIR"], os.listdir()]

def litter():
    pathlib.Path("file").write_text("x")
    pathlib.Path("folder").mkdir()

def report():
    runtime = sys.modules["penstock_step_runtime"]
    runtime.report_metric("rows", 3)
    runtime.report_metadata("source", "file")
    return [runtime.run_id, runtime.pipeline, runtime.step, runtime.item, runtime.attempt, runtime.idempotency_key]

def pid():
    return os.getpid()

def sleep(path):
    pathlib.Path(path).write_text(f"{os.getpid()}\\n")
    try:
        time.sleep(60)
    finally:
        pathlib.Path(path + ".finally").write_text("ran\\n")

def wait_for(path):
    while path and not pathlib.Path(path).exists():
        time.sleep(0.01)

def stubborn(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path(path).write_text(f"{os.getpid()}\\n")
    while True:
        time.sleep(1)

DAEMON = """
import os
import re, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open(sys.argv[1], "w").write(f"{os.getpid()}\\\\n")
time.sleep(100)
"""

def with_grandchildren(path):
    subprocess.run([sys.executable, "-c", DAEMON, path + ".marked"])
    subprocess.run([sys.executable, "-c", DAEMON, path + ".unmarked"], env={})
    child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    pathlib.Path(path).write_text(f"{os.getpid()} {child.pid}\\n")
    time.sleep(100)

def print_without_release():
    import ctypes
    size = 400_000
    return ctypes.PyDLL(None).write(1, b"x" * size, size) == size

def hog():
    return len(bytearray(1 << 62))
'''


@pytest.fixture
async def digest(coordinator: Coordinator) -> str:
    return coordinator.add_bundle(
        {"steps.py": STEPS, "broken.py": "import no_such_module\n", "src/deep/er.py": "def here(): return 1\n"}
    )


def output(result: wire.StepResult) -> Any:
    assert result.status == wire.RESULT_STATUS_OK, result
    return json.loads(result.output) if result.output else None


async def test_a_grant_is_accepted_run_answered_and_acknowledged(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    await agents.start()
    result = await coordinator.run(coordinator.function(digest, "steps:add"), inputs={"a": 2, "b": 40})
    assert output(result) == 42
    assert coordinator.accepted == [result.lease]
    assert len(result.result_id) == 16
    assert result.peak_memory_bytes > 1_000_000
    bodies = [message.WhichOneof("body") for message in coordinator.session.heard]
    assert bodies.index("leases_accepted") < bodies.index("results")
    await coordinator.until(lambda: coordinator.session.heard[-1].WhichOneof("body") == "heartbeat")
    await coordinator.until(lambda: not coordinator.session.heard[-1].heartbeat.leases)
    assert len(coordinator.results) == 1


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("nothing", {}, None),
        ("wait_and_add", {"a": 1, "b": 2}, 3),
        ("rows", {}, [{"day": "2026-01-02", "path": "x"}, [1, "ä"]]),
    ],
)
async def test_return_values(
    coordinator: Coordinator, agents: Agents, digest: str, name: str, inputs: dict[str, Any], expected: Any
) -> None:
    await agents.start(slots=1)
    result = await coordinator.run(coordinator.function(digest, f"steps:{name}"), inputs=inputs)
    assert output(result) == expected


async def test_the_peak_of_memory_is_that_of_the_attempt_alone(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    await agents.start(slots=1)
    work, large = coordinator.function(digest, "steps:fill"), 100_000_000
    peaks = [
        (await coordinator.run(work, inputs={"size": size})).peak_memory_bytes
        for size in (1, 1, large, 1, 1, large, large, 1)
    ]
    assert [peak > large for peak in peaks] == [False, False, True, False, False, True, True, False]


async def test_failures_are_told_apart_and_hurt_nothing_else(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    await agents.start(slots=1)

    async def failure(name: str, **inputs: Any) -> wire.ResultError:
        result = await coordinator.run(coordinator.function(digest, name), inputs=inputs)
        assert result.status == wire.RESULT_STATUS_FAILED
        return result.error

    error = await failure("steps:fail", text="for a reason")
    assert (error.reason, error.message, error.error_class) == ("UserError", "for a reason", "steps.Broken")
    assert "ValueError" in error.error_bases
    assert 'File "steps.py"' in error.traceback
    assert "penstock_agent" not in error.traceback
    error = await failure("steps:leave")
    assert (error.reason, error.error_class) == ("UserError", "SystemExit")
    error = await failure("steps:unserialisable")
    assert error.reason == "OutputUnserialisable"
    assert "output['rows'][1]['value']" in error.message
    assert "sorted" in error.message
    error = await failure("steps:not_a_number")
    assert error.reason == "OutputUnserialisable"
    assert "output['a'][0]" in error.message
    assert (await failure("steps:large")).reason == "OutputTooLarge"
    assert (await failure("steps:hog")).reason == "OutOfMemory"
    error = await failure("broken:step")
    assert (error.reason, error.error_class) == ("ModuleImport", "ModuleNotFoundError")
    assert "no_such_module" in error.traceback
    assert (await failure("steps:no_such_function")).reason == "ModuleImport"
    error = await failure("steps:abort")
    assert error.reason == "Crash"
    assert "SIGABRT" in error.message
    assert "last words on stderr" in error.message
    error = await failure("steps:vanish")
    assert error.reason == "Crash"
    assert "code 7" in error.message
    assert output(await coordinator.run(coordinator.function(digest, "steps:add"), inputs={"a": 1, "b": 1})) == 2
    await coordinator.logged("last words on stdout")
    assert not coordinator.returned


def has_logged(coordinator: Coordinator, count: int) -> bool:
    return len(coordinator.logs) >= count


@pytest.mark.parametrize("text", ["half a line", "a line\n", "lines\n" * 40 + "and half of one"])
async def test_last_words_that_were_taken_out_of_the_pipe_are_not_lost(
    coordinator: Coordinator, agents: Agents, digest: str, text: str
) -> None:
    """The process dies at once when its own thread has read them, whether that has passed them on or not."""
    await agents.start(slots=1)
    lines = text.splitlines()
    for repeat in range(1, 6):
        total = repeat * len(lines)
        result = await coordinator.run(coordinator.function(digest, "steps:taken"), inputs={"text": text})
        said = result.error.message
        assert said.endswith(f": {lines[-1]}" if len(lines) == 1 else "\n" + "\n".join(lines[-20:]))
        await coordinator.until(functools.partial(has_logged, coordinator, total))
        records = [record for _, record in coordinator.logs[total - len(lines) :]]
        assert [record.text for record in records] == lines
        assert [record.number for record in records] == list(range(1, len(lines) + 1))


async def test_a_crash_fails_the_running_attempt_alone(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start(slots=1)
    await coordinator.takes_at_once(10, coordinator.function(digest, "steps:add"), inputs={"a": 1, "b": 1})
    (dies,) = await coordinator.grant(coordinator.function(digest, "steps:vanish"))
    add = functools.partial(coordinator.grant, coordinator.function(digest, "steps:add"), inputs={"a": 1, "b": 1})
    after = await add(5)
    granted_at = time.monotonic()
    assert (await coordinator.result(dies)).error.reason == "Crash"
    for ref in after:
        if await is_handed_back(coordinator, ref):
            assert time.monotonic() - granted_at > HAND_BACK_AFTER / 1e6, "a busy machine alone makes it wait so long"
            (ref,) = await add()
        assert output(await coordinator.result(ref)) == 2


async def is_handed_back(coordinator: Coordinator, ref: wire.LeaseRef) -> bool:
    """Unstarted, when it had waited for too long for a slot. Returns when it has ended one way or the other."""
    await coordinator.until(
        lambda: (
            any(each.lease == ref for each in coordinator.results)
            or any(each.lease == ref for each in coordinator.returned)
        )
    )
    found = [each for each in coordinator.returned if each.lease == ref]
    assert not any(each.started for each in found)
    return bool(found)


async def test_a_worker_is_reused_and_stays_clean(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start(slots=1)
    spec = coordinator.function(digest, "steps:environment", env={"STEP_OWN": "1"})
    env = output(
        await coordinator.run(
            spec,
            parameters=json.dumps({"day": "monday", "top-n": [1, 2]}).encode(),
            trace_context={"traceparent": "00-1-2-01"},
        )
    )
    assert env["PENSTOCK_RUN_ID"] == "72727272-7272-7272-7272-727272727272"
    assert (env["PENSTOCK_STEP"], env["PENSTOCK_PIPELINE"], env["PENSTOCK_ATTEMPT"]) == ("step", "pipeline", "1")
    assert (env["PENSTOCK_PARAM_DAY"], env["PENSTOCK_PARAM_TOP_N"]) == ("monday", "[1, 2]")
    assert (env["TRACEPARENT"], env["STEP_OWN"]) == ("00-1-2-01", "1")
    assert "PENSTOCK_ITEM" not in env
    assert "PENSTOCK_API_KEY" not in env
    unsampled = {"traceparent": "00-1-2-00", "tracestate": "a=1"}
    env = output(await coordinator.run(spec, trace_context=unsampled))
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", env["TRACEPARENT"]), "of no trace, and it says so"
    assert "TRACESTATE" not in env
    assert output(await coordinator.run(spec, unsampled=True))["TRACEPARENT"] == env["TRACEPARENT"]
    first = output(await coordinator.run(coordinator.function(digest, "steps:pid", env={"STEP_OWN": "1"})))
    await coordinator.run(coordinator.function(digest, "steps:litter", env={"STEP_OWN": "1"}))
    left = await coordinator.run(coordinator.function(digest, "steps:left_over", env={"STEP_OWN": "1"}))
    assert output(left) == [None, True, []]
    assert output(await coordinator.run(coordinator.function(digest, "steps:pid", env={"STEP_OWN": "1"}))) == first


async def test_a_step_knows_itself_and_reports(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start(slots=1)
    result = await coordinator.run(coordinator.function(digest, "steps:report"), attempt=3)
    key = f"key-{result.lease.step}"
    assert output(result) == ["72727272-7272-7272-7272-727272727272", "pipeline", "step", None, 3, key]
    assert dict(result.metrics) == {"rows": 3.0}
    assert dict(result.metadata) == {"source": "file"}


async def test_src_is_on_the_import_path(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start(slots=1)
    assert output(await coordinator.run(coordinator.function(digest, "deep.er:here"))) == 1


async def test_large_inputs_reach_the_step(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start(slots=1)
    result = await coordinator.run(coordinator.function(digest, "steps:add"), inputs={"a": [1] * 40_000, "b": [2]})
    assert result.error.reason == "OutputTooLarge"
    result = await coordinator.run(coordinator.function(digest, "steps:fail"), inputs={"text": "x" * 200_000})
    assert 8_000 < len(result.error.message) <= 8_192


async def test_the_output_of_a_step_has_a_limit(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    """Of 64 KiB, as this coordinator says at the welcome."""
    await agents.start(slots=1)
    spec, most = coordinator.function(digest, "steps:add"), 64 * 1024 - len('""')
    at = await coordinator.run(spec, inputs={"a": "x" * (most - 1), "b": "y"})
    assert len(at.output) == 64 * 1024
    past = await coordinator.run(spec, inputs={"a": "x" * most, "b": "y"})
    assert past.error.reason == "OutputTooLarge"
    assert "65,537 bytes of JSON, and at most 65,536 are kept; write it to a file" in past.error.message


async def test_a_gigabyte_of_output_ends_normally(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start(slots=1)
    result = await coordinator.run(
        coordinator.function(digest, "steps:print_much"), 240, inputs={"size": 1_000_000_000}
    )
    assert output(result) == "printed"
    await coordinator.logged("the rest is cut off")
    kept = sum(len(text) for text in coordinator.text_of(wire.LOG_SOURCE_STDOUT))
    assert 3_000_000 < kept <= 4 * 2**20
    numbers = [record.number for _, record in coordinator.logs]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_native_code_that_prints_under_the_lock_ends(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    await agents.start(slots=1)
    assert output(await coordinator.run(coordinator.function(digest, "steps:print_without_release"))) is True


async def test_lines_go_on_after_a_reconnect(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    """Those of a stream that was cut off come again, as they were; none is missing, and none of the others is twice."""
    await agents.start(slots=1)
    spec = coordinator.function(digest, "steps:print_much")
    before = await coordinator.run(spec, inputs={"size": 10_000})
    await coordinator.until(lambda: lines_of(coordinator, before))
    await coordinator.stop()
    await coordinator.start(coordinator.port)
    await coordinator.until(lambda: len(coordinator.sessions) > 1)
    after = await coordinator.run(spec, inputs={"size": 30_000})
    await coordinator.until(lambda: len(lines_of(coordinator, after)) >= 3)
    text = "x" * 9_999
    assert set(lines_of(coordinator, before)) == {(1, text)}
    assert lines_of(coordinator, after) == [(1, text), (2, text), (3, text)]


def lines_of(coordinator: Coordinator, result: wire.StepResult) -> list[tuple[int, str]]:
    """As they came."""
    lease = result.lease.SerializeToString()
    return [(record.number, record.text) for of, record in coordinator.logs if of == lease]


async def test_a_polite_cancel_lets_finally_run(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    await agents.start(slots=1)
    path = tmp_path / "sleeps"
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:sleep"), inputs={"path": str(path)})
    pid = int(await written(path))
    for _ in range(3):
        await coordinator.cancel(ref, grace=10)
    result = await coordinator.result(ref)
    assert result.status == wire.RESULT_STATUS_CANCELLED
    assert (await written(tmp_path / "sleeps.finally")) == "ran\n"
    await gone(pid)
    assert len(coordinator.results) == 1


async def test_cancel_now_kills(coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path) -> None:
    await agents.start(slots=1)
    path = tmp_path / "sleeps"
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:sleep"), inputs={"path": str(path)})
    pid = int(await written(path))
    await coordinator.cancel(ref, grace=0)
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_CANCELLED
    assert not is_alive(pid)
    assert not (tmp_path / "sleeps.finally").exists()


async def test_who_ignores_sigterm_dies_after_the_grace(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    await agents.start(slots=1)
    path = tmp_path / "stubborn"
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:stubborn"), inputs={"path": str(path)})
    pid = int(await written(path))
    await coordinator.cancel(ref, grace=0.3)
    result = await coordinator.result(ref)
    assert result.status == wire.RESULT_STATUS_CANCELLED
    assert not is_alive(pid)
    assert output(await coordinator.run(coordinator.function(digest, "steps:add"), inputs={"a": 1, "b": 1})) == 2


async def test_a_timeout_kills_everything_that_was_started(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    await agents.start(slots=1)
    pids: list[int] = []
    for within in WITHIN:
        files = [tmp_path / f"pids-{within}{kind}" for kind in ("", ".marked", ".unmarked")]
        spec = coordinator.function(digest, "steps:with_grandchildren", attempt_timeout=seconds(within))
        result = await coordinator.run(spec, within + 60, inputs={"path": str(files[0])})
        assert (result.status, result.error.reason) == (wire.RESULT_STATUS_TIMED_OUT, "Timeout")
        pids = [int(pid) for file in files for pid in line_of(file).split()]
        assert not any(map(is_alive, pids))
        if len(pids) == 4:
            break
    assert len(pids) == 4, "all were there when the time was over"


async def test_what_waits_behind_a_long_step_runs_elsewhere(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    """On the agent's other slot; or, where that too is held up, on another agent: it is handed back."""
    await agents.start(slots=2)
    waits = coordinator.function(digest, "steps:wait_for")
    await coordinator.takes_at_once(8, waits, inputs={"path": ""})
    (long,) = await coordinator.grant(waits, inputs={"path": str(tmp_path / "go")})
    short = await coordinator.grant(waits, 6, inputs={"path": ""})

    def elsewhere() -> bool:
        done = [each.lease for each in coordinator.results] + [each.lease for each in coordinator.returned]
        return all(ref in done for ref in short)

    await coordinator.until(elsewhere)
    assert not any(each.lease == long for each in coordinator.results)
    assert not any(each.lease == long or each.started for each in coordinator.returned)
    touch(tmp_path / "go")
    output(await coordinator.result(long))


async def test_the_agent_takes_its_steps_with_it(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    """Killed, it cannot end them itself; the coordinator would run them a second time elsewhere."""
    agent = await agents.start(slots=1)
    path = tmp_path / "pids"
    await coordinator.grant(coordinator.function(digest, "steps:with_grandchildren"), inputs={"path": str(path)})
    pids = [*map(int, (await written(path)).split()), int(await written(tmp_path / "pids.marked"))]
    agent.send_signal(signal.SIGKILL)
    await gone(*pids)


async def test_mixed_kinds_share_the_slots(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    other = coordinator.add_bundle({"steps.py": "def add(a, b): return -1\n"})
    await agents.start(slots=1)
    specs = [coordinator.function(digest, "steps:add"), coordinator.function(other, "steps:add")]
    specs.append(wire.TaskSpec(command=wire.CommandTask(argv=["true"])))
    got = []
    for _ in range(2):
        got += [await coordinator.run(spec, inputs={"a": 1, "b": 1}) for spec in specs]
    assert [each.output for each in got] == [b"2", b"-1", b""] * 2
    assert sorted(coordinator.fetched) == sorted([digest, other])
    await asyncio.gather(*(coordinator.until(lambda: coordinator.session.grant_limit) for _ in range(2)))
