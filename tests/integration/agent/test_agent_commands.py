"""Commands as steps."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import WITHIN, Coordinator, seconds
from tests.integration.agent.processes import gone, is_alive, line_of, written

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.executors.worker.traces import derived_traceparent


def shell(script: str, *outputs: wire.CommandTaskOutput, **more: Any) -> wire.TaskSpec:
    task = {name: more.pop(name) for name in ("bundle_digest", "success_exit_codes") if name in more}
    return wire.TaskSpec(command=wire.CommandTask(shell=script, outputs=outputs, **task), **more)


def argv(*parts: str) -> wire.TaskSpec:
    return wire.TaskSpec(command=wire.CommandTask(argv=parts))


def out(name: str, *, file: str = "", as_json: bool = False) -> wire.CommandTaskOutput:
    return wire.CommandTaskOutput(name=name, stdout=not file, file=file, json=as_json)


async def test_a_command_that_looks_for_its_files_in_the_wrong_place_is_told_where_they_are(
    coordinator: Coordinator, agents: Agents
) -> None:
    await agents.start()
    digest = coordinator.add_bundle({"jobs/load.sh": "exit 0\n"})
    in_bundle = "(jobs/load.sh is a file of the bundle: write bundle/jobs/load.sh)"
    with_bundle = await coordinator.run(shell("sh jobs/load.sh", bundle_digest=digest))
    assert in_bundle in with_bundle.error.message
    as_program = await coordinator.run(
        wire.TaskSpec(command=wire.CommandTask(argv=["jobs/load.sh"], bundle_digest=digest))
    )
    assert in_bundle in as_program.error.message
    without = await coordinator.run(shell("./load.sh"))
    assert "(./load.sh is not there: a command starts in an empty folder" in without.error.message
    elsewhere = await coordinator.run(shell("cd bundle && cat jobs/load.sh none", bundle_digest=digest))
    assert "(" not in elsewhere.error.message.splitlines()[0]


async def test_outputs_environment_reports_and_bundle(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    digest = coordinator.add_bundle({"data.txt": "from the bundle\n"})
    script = """
        cat bundle/data.txt
        given="$PENSTOCK_INPUT_MY_NAME"
        printf '{"n": %s, "given": "%s", "own": "%s", "trace": "%s"}' \\
            "$PENSTOCK_PARAM_N" "$given" "$OWN" "$TRACEPARENT" > values.json
        printf '%s' "$PENSTOCK_INPUT_LIST" > "$PENSTOCK_OUTPUT_PLAIN"
        test "$PWD" = "$PENSTOCK_WORK_DIR"
        echo rows=12.5 >> "$PENSTOCK_METRICS_FILE"
        echo nonsense >> "$PENSTOCK_METRICS_FILE"
        echo kind=test >> "$PENSTOCK_METADATA_FILE"
    """
    result = await coordinator.run(
        shell(
            script,
            out("text"),
            out("values", file="values.json", as_json=True),
            out("plain", file="sub"),
            bundle_digest=digest,
            env={"OWN": "mine"},
        ),
        inputs={"my-name": "Ada", "list": [1, "a"]},
        parameters=b'{"n": 3}',
        unsampled=True,
    )
    assert result.status == wire.RESULT_STATUS_OK, result.error
    trace = derived_traceparent(str(uuid.UUID(bytes=result.lease.run_id)))
    assert json.loads(result.output) == {
        "text": "from the bundle",
        "values": {"n": 3, "given": "Ada", "own": "mine", "trace": trace},
        "plain": '[1, "a"]',
    }
    assert (dict(result.metrics), dict(result.metadata), result.exit_code) == ({"rows": 12.5}, {"kind": "test"}, 0)
    assert result.peak_memory_bytes > 0
    await coordinator.logged("from the bundle")


async def test_exit_codes_signals_and_what_is_missing(coordinator: Coordinator, agents: Agents, tmp_path: Path) -> None:
    await agents.start()

    async def failed(spec: wire.TaskSpec) -> wire.StepResult:
        result = await coordinator.run(spec)
        assert result.status == wire.RESULT_STATUS_FAILED
        return result

    result = await failed(shell("echo it went wrong >&2; exit 3"))
    assert (result.error.reason, result.exit_code) == ("ExitCode", 3)
    assert "code 3" in result.error.message
    assert "it went wrong" in result.error.message
    result = await failed(shell("false; echo not reached"))
    assert result.exit_code == 1
    result = await failed(shell("kill -SEGV $$"))
    assert (result.error.reason, result.HasField("exit_code")) == ("Crash", False)
    assert "SIGSEGV" in result.error.message
    result = await failed(argv("no-such-program"))
    assert "'no-such-program' was not found" in result.error.message
    result = await failed(shell("true", out("rows", file="rows.json")))
    assert "'rows'" in result.error.message
    assert "'rows.json'" in result.error.message
    result = await failed(shell("echo '{bad'", out("rows", as_json=True)))
    assert result.error.reason == "OutputUnserialisable"
    assert "no JSON" in result.error.message
    result = await failed(shell("head -c 70000 /dev/zero | tr '\\0' x", out("rows")))
    assert "more than 65,536 bytes" in result.error.message
    fine = await coordinator.run(shell("exit 4", success_exit_codes=[0, 4]))
    assert (fine.status, fine.exit_code) == (wire.RESULT_STATUS_OK, 4)
    assert not list((tmp_path / "agent" / "work").glob("worker-*/work/attempt-*"))


async def test_what_is_no_file_and_no_json_fails_the_step_and_holds_up_nobody(
    coordinator: Coordinator, agents: Agents
) -> None:
    """Reading a named pipe that nobody writes to would never end."""
    await agents.start()

    async def refused(spec: wire.TaskSpec) -> str:
        result = await coordinator.run(spec)
        assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "OutputUnserialisable")
        return result.error.message

    assert "no regular file" in await refused(shell("mkfifo x", out("rows", file="x")))
    assert "no regular file" in await refused(shell("ln -s /dev/zero x", out("rows", file="x")))
    assert "cannot be read" in await refused(shell("mkdir x", out("rows", file="x")))
    assert "Unicode" in await refused(shell("""printf '"\\\\ud800"'""", out("rows", as_json=True)))
    assert "no JSON number" in await refused(shell("echo 1e999", out("rows", as_json=True)))
    reports = await coordinator.run(shell('mkfifo "$PENSTOCK_METRICS_FILE"; echo x=y > "$PENSTOCK_METADATA_FILE"'))
    assert (reports.status, dict(reports.metrics)) == (wire.RESULT_STATUS_OK, {})
    assert dict(reports.metadata) == {"x": "y"}


async def test_what_no_environment_can_hold_is_not_changed(coordinator: Coordinator, agents: Agents) -> None:
    """An input with a NUL comes in a file, as one that is too large does. A parameter with one is left out, and so are
    two whose names become the same variable."""
    await agents.start()
    script = """
        test -z "${PENSTOCK_INPUT_X+set}${PENSTOCK_PARAM_P+set}${PENSTOCK_PARAM_A_B+set}"
        tr '\\0' '!' < "$PENSTOCK_INPUT_X_FILE"
        echo " $PENSTOCK_PARAM_Q $(wc -c < "$PENSTOCK_INPUT_LARGE_FILE")"
    """
    result = await coordinator.run(
        shell(script, out("said")),
        inputs={"x": "a\0b\r\n", "large": "x" * 100_000},
        parameters=b'{"p": "a\\u0000b", "q": ["\\u0000"], "a-b": 1, "a_b": 2}',
    )
    assert result.status == wire.RESULT_STATUS_OK, result.error
    assert json.loads(result.output) == {"said": 'a!b\r\n ["\\u0000"] 100000'}


async def test_no_part_of_argv_is_interpreted(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    spec = wire.TaskSpec(command=wire.CommandTask(argv=["echo", "$HOME;*"], outputs=[out("said")]))
    assert json.loads((await coordinator.run(spec)).output) == {"said": "$HOME;*"}


async def test_what_a_command_leaves_behind_is_killed(coordinator: Coordinator, agents: Agents, tmp_path: Path) -> None:
    await agents.start()
    pids = tmp_path / "pids"
    script = f"(env -i setsid sleep 100 & echo $! > {pids}); sleep 100 & echo done"
    result = await coordinator.run(shell(script, out("said")))
    assert json.loads(result.output) == {"said": "done"}
    assert result.run_duration.seconds < 5
    assert not is_alive(int(await written(pids)))


async def test_a_polite_cancel_is_a_sigterm_and_then_a_kill(
    coordinator: Coordinator, agents: Agents, tmp_path: Path
) -> None:
    await agents.start()
    polite = f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; echo $$ > {tmp_path}/polite; while :; do sleep 0.05; done"
    (ref,) = await coordinator.grant(shell(polite))
    await written(tmp_path / "polite")
    await coordinator.cancel(ref, grace=10)
    result = await coordinator.result(ref)
    assert (await written(tmp_path / "bye")) == "bye\n"
    assert result.status == wire.RESULT_STATUS_OK
    (ref,) = await coordinator.grant(shell(f"trap '' TERM; echo $$ > {tmp_path}/deaf; while :; do sleep 0.05; done"))
    pid = int(await written(tmp_path / "deaf"))
    await coordinator.cancel(ref, grace=0.3)
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_CANCELLED
    assert not is_alive(pid)


async def test_a_timeout_ends_a_command_and_keeps_its_last_words(
    coordinator: Coordinator, agents: Agents, tmp_path: Path
) -> None:
    await agents.start()
    pid = ""
    for within in WITHIN:
        script = f"echo working; sleep 100 & echo $! > {tmp_path}/pid; wait"
        result = await coordinator.run(shell(script, attempt_timeout=seconds(within)), within + 60)
        assert (result.status, result.error.reason) == (wire.RESULT_STATUS_TIMED_OUT, "Timeout")
        assert f"{within:g} s" in result.error.message
        if pid := line_of(tmp_path / "pid"):
            break
    await gone(int(pid))
    await coordinator.logged("working")


async def test_floods_of_both_streams_end(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    script = "head -c 300000000 /dev/zero | tr '\\0' '\\n'; head -c 300000000 /dev/zero >&2; echo last >&2; exit 9"
    result = await coordinator.run(shell(script), 240)
    assert result.exit_code == 9
    assert "last" in result.error.message


async def test_the_log_lines_of_an_attempt_have_a_limit(
    coordinator: Coordinator, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_LOG_LINES", "3")
    await agents.start(slots=1)
    await coordinator.run(shell("seq 3"))
    await coordinator.run(shell("seq 4"))
    await coordinator.logged("the attempt printed more than 3 lines or")
    assert coordinator.text_of(wire.LOG_SOURCE_STDOUT) == ["1", "2", "3"] * 2
    assert len(coordinator.text_of(wire.LOG_SOURCE_SYSTEM)) == 1


async def test_the_log_bytes_of_an_attempt_have_a_limit(
    coordinator: Coordinator, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_LOG_BYTES", "6")
    await agents.start(slots=1)
    await coordinator.run(shell("echo ab; echo cd"))
    await coordinator.run(shell("echo ab; echo cde"))
    await coordinator.logged("lines or 6 bytes: the rest is cut off")
    assert coordinator.text_of(wire.LOG_SOURCE_STDOUT) == ["ab", "cd", "ab"]
    assert len(coordinator.text_of(wire.LOG_SOURCE_SYSTEM)) == 1
