"""The command line in a pipe: what it prints, what it sends, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import grpc
import pytest
from tests.integration.sdk import peer as wire
from tests.integration.sdk.command_line import EXAMPLES, CommandLine
from tests.integration.sdk.peer import Fault, Peer

from penstock.v1 import agent_admin_service_pb2, pipeline_pb2, run_pb2, run_service_pb2

CHAIN = str(EXAMPLES / "chain.py")
CHAIN_YAML = str(EXAMPLES / "chain.yaml")


@pytest.fixture
def failing(peer: Peer) -> Peer:
    """Every run fails in its first step."""
    add_run = peer.add_run

    def add_failing_run(spec: pipeline_pb2.PipelineSpec, version: int) -> run_pb2.Run:
        run = add_run(spec, version)
        failure = run_pb2.Failure(reason="UserError", message="division by zero\nmore")
        change = wire.change(spec.steps[0].name, run_pb2.STEP_RUN_STATE_FAILED, attempt=2, failure=failure)
        peer.events[run.id] = [
            wire.event(1, change),
            wire.event(2, state=run_pb2.RUN_STATE_FAILED, reason="step add failed"),
        ]
        return run

    peer.add_run = add_failing_run  # type: ignore[method-assign]  # the script of this test
    return peer


async def test_run_prints_one_plain_line_per_change(peer: Peer, penstock: CommandLine) -> None:
    result = await penstock.run("run", CHAIN, "-p", "n=7", "-l", "who=me")
    assert result.err == ""
    assert result.code == 0
    first, *changes, last = result.lines()
    assert first == "run run-1 of chain, version 1"
    assert changes == [
        "14:13:20.250 run RUNNING",
        "14:13:20.500 add RUNNING (on agent-1)",
        "14:13:20.750 add COMPLETED",
        "14:13:21.000 multiply RUNNING (on agent-1)",
        "14:13:21.250 multiply COMPLETED",
        "14:13:21.500 subtract RUNNING (on agent-1)",
        "14:13:21.750 subtract COMPLETED",
        "14:13:22.000 run COMPLETED",
    ]
    assert last == "run run-1 COMPLETED"
    assert dict(peer.runs["run-1"].labels) == {"who": "me"}
    assert peer.runs["run-1"].parameters["n"].number_value == 7


async def test_what_the_coordinator_warns_of_is_said_once_on_standard_error(peer: Peer, penstock: CommandLine) -> None:
    peer.warnings = ["The step x names a secret.", "Another one."]
    said = "Warning: The step x names a secret.\nWarning: Another one.\n"
    run, applied = await penstock.run("run", CHAIN, "-p", "n=1", "-d"), await penstock.run("apply", CHAIN, "--json")
    assert (run.code, run.out, run.err) == (0, "run-1\n", said)
    assert (applied.code, applied.err) == (0, said)
    assert len(applied.json_lines()) == 1
    checked = await penstock.run("validate", CHAIN)
    assert (checked.code, checked.out, checked.err) == (0, "chain is valid\n", said)


async def test_run_with_json_prints_events_and_at_last_the_run(penstock: CommandLine) -> None:
    result = await penstock.run("run", CHAIN, "-p", "n=7", "--json")
    *events, run = result.json_lines()
    assert [event["number"] for event in events] == [str(number) for number in range(1, 9)]
    assert events[1]["steps"][0]["state"] == "STEP_RUN_STATE_RUNNING"
    assert (run["id"], run["state"]) == ("run-1", "RUN_STATE_COMPLETED")
    assert result.code == 0


async def test_run_of_a_yaml_file_with_commands_needs_no_bundle(peer: Peer, penstock: CommandLine) -> None:
    result = await penstock.run("run", CHAIN_YAML, "-p", "n=1", "--detach")
    assert (result.code, result.out) == (0, "run-1\n")
    assert not peer.bundles
    assert [step.name for step in peer.pipelines["chain-commands"][0].spec.steps] == [
        "add",
        "multiply",
        "subtract",
    ]


async def test_the_same_request_id_is_the_same_run(peer: Peer, penstock: CommandLine) -> None:
    for _ in range(2):
        result = await penstock.run("run", CHAIN, "-p", "n=1", "--request-id", "once", "--detach")
        assert result.out == "run-1\n"
    assert list(peer.runs) == ["run-1"]


async def test_a_run_may_have_a_priority_and_a_weight(peer: Peer, penstock: CommandLine) -> None:
    result = await penstock.run("run", CHAIN, "-p", "n=1", "--priority", "-7", "--weight", "2.5", "--detach")
    assert result.code == 0
    assert (peer.runs["run-1"].priority, peer.runs["run-1"].weight) == (-7, 2.5)
    shown = await penstock.run("get", "run-1")
    assert [line.split() for line in shown.lines() if line.startswith(("priority", "weight"))] == [
        ["priority", "-7"],
        ["weight", "2.5"],
    ]
    refused = await penstock.run("start", "chain", "--priority", "1001")
    assert (refused.code, "-1000<=x<=1000" in refused.err) == (2, True)


async def test_a_failed_run_has_exit_code_1_and_says_why(failing: Peer, penstock: CommandLine) -> None:
    result = await penstock.run("run", CHAIN, "-p", "n=7")
    assert result.code == 1
    assert "add FAILED (attempt 2, UserError: division by zero)" in result.out
    assert result.lines()[-1] == "run run-1 FAILED: step add failed"
    assert result.err == (
        "What failed, with its traceback: penstock get run-1 add\nWhat it printed: penstock logs run-1 add\n"
    )
    with_json = await penstock.run("run", CHAIN, "-p", "n=7", "--json")
    assert (with_json.code, with_json.err) == (1, "")


async def test_the_hint_of_a_failed_run_names_the_item_and_the_address(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("run", CHAIN, "-p", "n=7", "-d")
    peer.events["run-1"] = [
        wire.event(1, wire.change("add", run_pb2.STEP_RUN_STATE_FAILED, item=[3])),
        wire.event(2, wire.change("add", run_pb2.STEP_RUN_STATE_FAILED)),
        wire.event(3, state=run_pb2.RUN_STATE_FAILED),
    ]
    result = await penstock.run("watch", "run-1", "--address", peer.address)
    assert result.err.splitlines() == [
        f"What failed, with its traceback: penstock get run-1 'add[3]' --address {peer.address}",
        f"What it printed: penstock logs run-1 'add[3]' --address {peer.address}",
    ]


async def test_the_hint_names_the_step_of_the_reason_and_goes_down_into_the_run_that_it_is(
    peer: Peer, penstock: CommandLine
) -> None:
    for _ in range(2):
        await penstock.run("run", CHAIN, "-p", "n=7", "-d")
    peer.step_runs["run-1"][1].child_run_id = "run-2"
    peer.runs["run-2"].reason = 'step "subtract" failed: ValueError: no'
    peer.runs["run-2"].parent.run_id, peer.runs["run-2"].parent.step = "run-1", "multiply"
    peer.events["run-1"] = [
        wire.event(1, wire.change("add", run_pb2.STEP_RUN_STATE_FAILED)),
        wire.event(2, wire.change("multiply", run_pb2.STEP_RUN_STATE_FAILED)),
        wire.event(3, state=run_pb2.RUN_STATE_FAILED, reason='step "multiply" failed: SubPipeline: ...'),
    ]
    result = await penstock.run("watch", "run-1")
    assert result.err.startswith("What failed, with its traceback: penstock get run-2 subtract\n")
    shown = await penstock.run("get", "run-1")
    assert [line.split()[-2:] for line in shown.lines() if line.startswith("multiply")] == [["run-2", '"multiply"']]
    assert (await penstock.run("logs", "run-1")).err == "multiply is a run of chain: penstock logs run-2\n"


async def test_items_of_a_map_are_listed_by_state(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("run", CHAIN, "-p", "n=7", "-d")
    steps = peer.step_runs["run-1"]
    steps[0].item_counts.completed, steps[0].item_counts.failed = 2, 1
    for number in range(3):
        state = run_pb2.STEP_RUN_STATE_COMPLETED if number else run_pb2.STEP_RUN_STATE_FAILED
        item = run_pb2.StepRun(step="add", item=[number], display_name=f"add[{number}]", state=state)
        if not number:
            item.failure.reason, item.failure.message = "ExitCode", "exit code 3: oops\nmore"
        steps.append(item)
    titles, line = (await penstock.run("get", "run-1", "add", "--items", "--state", "failed")).lines()
    assert titles.split() == ["ITEM", "STATE", "ATTEMPTS", "TIME", "AGENT", "OUTPUT"]
    assert line.split() == ["add[0]", "FAILED", "ExitCode:", "exit", "code", "3:", "oops"]
    limited = await penstock.run("get", "run-1", "add", "--items", "--limit", "1")
    assert (len(limited.lines()), limited.err) == (2, "2 more: --limit 3 shows all.\n")
    assert "get run-1 add --items --state failed" in (await penstock.run("get", "run-1", "add")).err
    absent = await penstock.run("get", "run-1", "add[3000]")
    assert (absent.code, "no item add[3000]: 'add' has 3 items, the first is add[0]" in absent.err) == (2, True)
    assert "did you mean 'add'?" in (await penstock.run("get", "run-1", "ad")).err
    assert "'multiply' has no items" in (await penstock.run("get", "run-1", "multiply", "--items")).err


async def test_a_ready_step_says_what_it_waits_for(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("run", CHAIN, "-p", "n=7", "-d")
    waiting = peer.step_runs["run-1"][0]
    waiting.state, waiting.output_json = run_pb2.STEP_RUN_STATE_READY, ""
    reason = run_service_pb2.Reason(kind="NoAgent", message="No agent is connected.")
    peer.explained = [run_service_pb2.StepExplanation(step="add", reasons=[reason])]
    shown = await penstock.run("get", "run-1")
    assert [line.endswith("No agent is connected.") for line in shown.lines() if line.startswith("add")] == [True]


async def test_a_cancelled_run_has_exit_code_3(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("run", CHAIN, "-p", "n=7", "-d")
    peer.events["run-1"] = [wire.event(1, state=run_pb2.RUN_STATE_CANCELLED)]
    assert (await penstock.run("watch", "run-1")).code == 3


async def test_ctrl_c_stops_the_watching_only(peer: Peer, penstock: CommandLine) -> None:
    peer.gate = asyncio.Event()
    process = await penstock.start("run", CHAIN, "-p", "n=7")
    async with asyncio.timeout(60):
        await peer.gated.wait()
    process.send_signal(signal.SIGINT)
    result = await penstock.finish(process)
    assert result.code == 130
    assert "The run goes on" in result.err
    assert "penstock watch run-1" in result.err
    assert "penstock cancel run-1" in result.err
    assert not peer.called("Cancel")


async def test_a_wrong_argument_is_one_clean_line(peer: Peer, penstock: CommandLine) -> None:
    result = await penstock.run("run", CHAIN, "-p", "n=three")
    assert result.code == 2
    assert result.err == ("penstock: n: 'three' does not fit the type int (give a whole number, for example 3)\n")
    assert not peer.runs


async def test_a_params_file_and_pairs(peer: Peer, penstock: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("n: 3\n")
    await penstock.run("run", CHAIN, "--params-file", "params.yaml", "-d")
    await penstock.run("run", CHAIN, "--params-file", "params.yaml", "-p", "n=4", "-d")
    given = [peer.runs[run].parameters["n"].number_value for run in ("run-1", "run-2")]
    assert given == [3, 4]


async def test_a_module_that_does_not_import_shows_the_users_frames(penstock: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def helper():\n    import no_such_package\n\nhelper()\n")
    result = await penstock.run("run", "broken.py")
    assert result.code == 2
    assert "broken.py" in result.err
    assert "line 2, in helper" in result.err
    assert "importlib" not in result.err
    assert result.err.splitlines()[-1].startswith("penstock: ")
    assert "install 'no_such_package'" in result.err


async def test_several_pipelines_in_a_file_are_chosen_by_name(
    peer: Peer, penstock: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "two.py").write_text(
        "from penstock import pipeline, step\n"
        "@step\ndef a(): ...\n"
        "@pipeline\ndef first(): a()\n"
        "@pipeline(name='other')\ndef second(): a()\n"
    )
    unclear = await penstock.run("run", "two.py")
    assert (unclear.code, "several pipelines: first, other" in unclear.err) == (2, True)
    for arguments in (("two.py:second",), ("two.py:other",), ("two.py", "--pipeline", "other")):
        assert (await penstock.run("run", *arguments, "-d")).code == 0
    assert set(peer.pipelines) == {"other"}
    wrong = await penstock.run("run", "two.py:secnd")
    assert "did you mean 'second'?" in wrong.err


async def test_script_folders_import_their_siblings_here_and_in_the_bundle(
    peer: Peer, penstock: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "sibling.py").write_text("AMOUNT = 3\n")
    (tmp_path / "scripts" / "etl.py").write_text(
        "from penstock import pipeline, step\nfrom sibling import AMOUNT\n"
        "@step\ndef a(): return AMOUNT\n@pipeline\ndef etl(): a()\n"
    )
    result = await penstock.run("run", "scripts/etl.py")
    assert result.code == 0, result.err
    action = peer.pipelines["etl"][0].spec.steps[0].function
    assert (action.module, action.qualname) == ("scripts.etl", "a")


async def test_refusals_of_the_coordinator_are_one_line(peer: Peer, penstock: CommandLine) -> None:
    details = (wire.error_info("SPEC_INVALID"), wire.bad_request("steps[0].when", "unknown name 'x'"))
    peer.fail("Create", Fault(grpc.StatusCode.INVALID_ARGUMENT, "the specification does not hold", details))
    result = await penstock.run("apply", CHAIN)
    assert result.code == 2
    assert result.err == (
        f"penstock: not accepted: {CHAIN}: the specification does not hold; steps[0].when: unknown name 'x'\n"
    )


async def test_what_the_message_says_is_not_said_again(peer: Peer, penstock: CommandLine) -> None:
    text = "there is no such run"
    peer.fail("GetRun", Fault(grpc.StatusCode.NOT_FOUND, text, (wire.bad_request("run_id", text),)))
    assert (await penstock.run("watch", "run-1")).err == "penstock: not found: there is no such run\n"


async def test_a_refusal_for_want_of_room_says_when_to_come_back(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("apply", CHAIN)
    details = (wire.error_info("OVERLOADED"), wire.retry_info(59.2))
    peer.fail("Start", Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "10 runs wait to begin: wait", details))
    result = await penstock.run("start", "chain", "-p", "n=1")
    assert (result.code, result.err) == (
        1,
        "penstock: past a limit: 10 runs wait to begin: wait; come back in 60 s\n",
    )


IDS = (
    "019a6d00-0000-7000-8000-00000000aaaa",
    "019a6d00-0000-7000-8000-00000000bbbb",
    "019b0000-0000-7000-8000-00000001aaaa",
)


@pytest.fixture
async def three_runs(peer: Peer, penstock: CommandLine) -> Peer:
    for run_id in IDS:
        await penstock.run("run", CHAIN, "-p", "n=1", "-d")
        number = next(name for name in peer.runs if name.startswith("run-"))
        peer.runs[run_id] = peer.runs.pop(number)
        peer.events[run_id] = peer.events.pop(number)
        peer.step_runs[run_id] = peer.step_runs.pop(number)
        peer.runs[run_id].id = run_id
    return peer


@pytest.mark.parametrize(
    ("part", "place"), [("0000AAAA", 0), ("-00000000bbbb", 1), ("019b0000", 2), ("00000001aaaa", 2), (IDS[1], 1)]
)
async def test_a_run_is_named_by_a_part_of_its_id(
    three_runs: Peer, penstock: CommandLine, part: str, place: int
) -> None:
    assert f"run        {IDS[place]}" in (await penstock.run("get", "--", part)).out
    watched = await penstock.run("watch", "--", part)
    assert watched.lines()[-1] == f"run {IDS[place]} COMPLETED"
    cancelled = await penstock.run("cancel", "--", part)
    assert cancelled.out == f"run {IDS[place]} is already COMPLETED: nothing to cancel\n"
    await penstock.run("logs", "--", part)
    assert three_runs.called("TailLogs")[-1].run_id == IDS[place]


async def test_a_part_that_is_of_several_runs_of_none_or_too_short(three_runs: Peer, penstock: CommandLine) -> None:
    several = await penstock.run("get", "019a6d00")
    assert several.code == 2
    assert all(run_id in several.err for run_id in IDS[:2])
    assert "give the last 8 characters" in several.err
    none = await penstock.run("cancel", "deadbeef")
    assert (none.code, "begins or ends with 'deadbeef'" in none.err) == (2, True)
    short = await penstock.run("logs", "aaaa")
    assert (short.code, "too short" in short.err) == (2, True)
    assert not three_runs.called("Cancel")


async def test_a_step_shows_what_its_attempts_used_and_the_one_that_runs(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("run", CHAIN, "-p", "n=1", "-d")
    step_run = peer.step_runs["run-1"][0]
    step_run.state, step_run.attempt_count = run_pb2.STEP_RUN_STATE_RUNNING, 2
    titles, first, second = (line.split() for line in (await penstock.run("get", "run-1", "add")).lines()[-3:])
    assert titles == ["ATTEMPT", "OUTCOME", "AGENT", "TIME", "CPU", "MEMORY", "FAILURE"]
    assert first == ["1", "COMPLETED", "agent-1", "2.0", "s", "1.5", "s", "64.0", "MiB"]
    assert second == ["2", "RUNNING", "agent-1"]


async def test_a_debug_variable_shows_the_trace(penstock: CommandLine) -> None:
    assert "Traceback" not in (await penstock.run("get", "nope")).err
    assert "Traceback" in (await penstock.run("get", "nope", PENSTOCK_DEBUG="1")).err


async def test_apply_start_get_list_delete(peer: Peer, penstock: CommandLine) -> None:
    applied = await penstock.run("apply", CHAIN)
    assert applied.out.startswith("chain version 1 (")
    assert (await penstock.run("apply", CHAIN, "--json")).json_lines()[0]["number"] == "1"

    started = await penstock.run("start", "chain", "-p", "n=2")
    assert started.lines()[-1] == "run run-1 COMPLETED"

    got = await penstock.run("get", "run-1")
    assert "state      COMPLETED" in got.out
    assert 'parameters {"n": 2}' in got.out
    assert [line.split() for line in got.lines()[-3:]] == [
        [name, "COMPLETED", "1", "2.0", "s", f'"{name}"'] for name in ("add", "multiply", "subtract")
    ]
    (as_json,) = (await penstock.run("get", "run-1", "--json")).json_lines()
    assert [each["step"] for each in as_json["stepRuns"]] == ["add", "multiply", "subtract"]

    step = await penstock.run("get", "run-1", "add")
    assert 'output     "add"' in step.out
    assert "COMPLETED  agent-1  2.0 s  1.5 s  64.0 MiB" in step.out

    listed = await penstock.run("list", "--state", "completed")
    assert listed.lines()[1].split()[:4] == ["run-1", "chain", "1", "COMPLETED"]
    assert (await penstock.run("list", "--json")).json_lines()[0]["id"] == "run-1"
    assert (await penstock.run("list", "pipelines")).lines()[1].split()[:3] == ["chain", "1", "3"]

    shown = await penstock.run("get", "pipeline", "chain")
    assert "function: chain:add" in shown.out

    assert (await penstock.run("delete", "chain")).out == "chain is deleted\n"
    assert (await penstock.run("get", "pipeline", "chain")).code == 2


async def test_validate_lists_every_problem(peer: Peer, penstock: CommandLine) -> None:
    assert (await penstock.run("validate", CHAIN)).out == "chain is valid\n"
    peer.problems = [("steps[0].name", "too long"), ("steps[1].when", "unknown")]
    result = await penstock.run("validate", CHAIN)
    assert result.code == 2
    assert result.lines() == [f"{CHAIN}: steps[0].name: too long", f"{CHAIN}: steps[1].when: unknown"]
    as_json = await penstock.run("validate", CHAIN, "--json")
    assert as_json.json_lines()[0]["problems"][0] == {"field": "steps[0].name", "description": "too long"}


async def test_logs_go_to_the_stream_that_they_came_from(peer: Peer, penstock: CommandLine) -> None:
    peer.lines = [wire.line("a", 1, "out"), wire.line("a", 2, "bad"), wire.line("b", 1, "[x]", item=(3,))]
    peer.lines[1].stream = run_service_pb2.LOG_STREAM_STDERR
    result = await penstock.run("logs", "run-1")
    assert (result.out, result.err) == ("a | out\nb[3] | [x]\n", "a | bad\n")
    assert (await penstock.run("logs", "run-1", "a")).out == "out\n"
    assert (await penstock.run("logs", "run-1", "b[3]", "--tail", "5", "-f")).out == "[x]\n"
    request = peer.called("TailLogs")[-1]
    assert (list(request.item), request.tail_lines, request.follow) == ([3], 5, True)
    assert (await penstock.run("logs", "run-1", "b[", "-f")).code == 2
    assert (await penstock.run("logs", "run-1", "--json")).json_lines()[0]["text"] == "out"


async def test_logs_tell_attempts_apart(peer: Peer, penstock: CommandLine) -> None:
    peer.lines = [wire.line("a", 1, "one"), wire.line("a", 1, "two", attempt=2)]
    assert (await penstock.run("logs", "run-1")).out == "a | one\na (attempt 2) | two\n"
    one = await penstock.run("logs", "run-1", "a")
    assert (one.out, one.err) == ("one\ntwo\n", "attempt 2:\n")


async def test_cancel(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("run", CHAIN, "-p", "n=1", "-d")
    result = await penstock.run("cancel", "run-1", "--now", "--reason", "enough")
    assert (result.code, result.out) == (0, "run run-1 CANCELLED\n")
    (request,) = peer.called("Cancel")
    assert (request.mode, request.reason) == (run_service_pb2.CANCEL_MODE_NOW, "enough")


async def test_agents(peer: Peer, penstock: CommandLine) -> None:
    peer.agents = [
        agent_admin_service_pb2.Agent(
            id="one", state=agent_admin_service_pb2.AGENT_STATE_CONNECTED, queues=["default"], slots=4, leases=1
        )
    ]
    for arguments in (("agents",), ("agents", "list")):
        assert (await penstock.run(*arguments)).lines()[1].split()[:4] == ["one", "CONNECTED", "1/4", "default"]
    assert (await penstock.run("agents", "get", "one", "--json")).json_lines()[0]["id"] == "one"
    assert (await penstock.run("agents", "--json")).json_lines() == (
        await penstock.run("agents", "list", "--json")
    ).json_lines()
    misplaced = await penstock.run("agents", "--json", "get", "one")
    assert (misplaced.code, "penstock agents get --json" in misplaced.err) == (2, True)
    assert "PAUSED" in (await penstock.run("agents", "pause", "one")).out
    assert "CONNECTED" in (await penstock.run("agents", "resume", "one")).out
    assert "DRAINING" in (await penstock.run("agents", "drain", "one", "--deadline", "5")).out


async def test_config_names_sources_and_masks_the_key(penstock: CommandLine, tmp_path: Path) -> None:
    result = await penstock.run("config", "--json", PENSTOCK_API_KEY="very-secret")
    (shown,) = result.json_lines()
    settings = {setting["name"]: setting for setting in shown["settings"]}
    assert settings["address"]["source"] == "environment PENSTOCK_ADDRESS"
    assert (settings["api_key"]["value"], settings["api_key"]["source"]) == (
        "********",
        "environment PENSTOCK_API_KEY",
    )
    assert "very-secret" not in json.dumps(shown)
    file = tmp_path / "config" / "penstock" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[client]\naddress = "localhost:7500"\n')
    table = await penstock.run("config", PENSTOCK_ADDRESS="")
    assert "127.0.0.1:7500" in table.out
    assert str(file) in table.out
    file.write_text("[client]\nadress = 1\n")
    wrong = await penstock.run("config")
    assert wrong.code == 2
    assert "adress" in wrong.err
    assert "'address'" in wrong.err, "what may be meant"


async def test_config_shows_those_of_a_coordinator_and_an_agent(penstock: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:very-secret@127.0.0.1/d\n")
    file.write_text(f'[server]\nlanes = 2\ndatabase_url_file = "{secret}"\n[agent]\nqueues = ["a", "b"]\n')
    shown = await penstock.run("--config", str(file), "config", "server", "--json", "--lease-ttl", "45s")
    assert "very-secret" not in shown.out + shown.err
    (told,) = shown.json_lines()
    found = {each["name"]: (each["value"], each["source"]) for each in told["settings"]}
    assert told["configFile"] == str(file)
    assert found["lanes"] == ("2", "file")
    assert found["lease_ttl"] == ("45s", "flag")
    assert found["database_url"] == ("********", "secret file")
    assert found["heartbeat_interval"] == ("5s", "default")

    table = await penstock.run("config", "agent", PENSTOCK_CONFIG=str(file), PENSTOCK_AGENT_SLOTS="3", COLUMNS="200")
    lines = {line.split()[0]: line.split() for line in table.out.splitlines() if line.split()}
    assert lines["queues"][1:3] == ["a,b", "file"]
    assert lines["slots"][1:3] == ["3", "environment"]

    wrong = await penstock.run("config", "agent", PENSTOCK_CONFIG=str(tmp_path / "none.toml"))
    assert (wrong.code, "PENSTOCK_CONFIG" in wrong.err) == (2, True)


async def test_an_unknown_pipeline_is_told_in_commands(peer: Peer, penstock: CommandLine, tmp_path: Path) -> None:
    await penstock.run("apply", CHAIN)
    assert "there is no pipeline 'chian' (did you mean 'chain'?)" in (await penstock.run("start", "chian")).err
    (tmp_path / "block.yaml").write_text("")
    assert "`penstock apply block.yaml` creates it" in (await penstock.run("start", "block")).err
    empty = await penstock.run("list", "--pipeline", "chian")
    assert (empty.code, "did you mean 'chain'?" in empty.err) == (2, True)


async def test_the_address_may_stand_before_the_command(peer: Peer, penstock: CommandLine) -> None:
    result = await penstock.run("--address", peer.address, "list", "pipelines", PENSTOCK_ADDRESS="127.0.0.1:1")
    assert result.code == 0, result.err
    agents = await penstock.run("--address", peer.address, "agents", "list", PENSTOCK_ADDRESS="127.0.0.1:1")
    assert agents.code == 0, agents.err
    assert (await penstock.run("--address", peer.address, "dev")).code == 2


async def test_a_folder_is_no_pipeline_file(penstock: CommandLine) -> None:
    assert (await penstock.run("run", ".")).err == "penstock: .: this is a folder (name a .py or .yaml file in it)\n"


async def test_time_at_an_event_goes_on_to_the_event(peer: Peer, penstock: CommandLine) -> None:
    await penstock.run("run", CHAIN, "-p", "n=1", "-d")
    peer.events["run-1"][6].time.FromSeconds(wire.BASE_TIME + 61)
    peer.step_runs["run-1"][2].ClearField("end_time")
    shown = await penstock.run("get", "run-1", "--at", "7")
    assert "time       1 m 01 s" in shown.lines()
    assert shown.lines()[-1].split()[:6] == ["subtract", "COMPLETED", "1", "1", "m", "01"]
    step = await penstock.run("get", "run-1", "subtract", "--at", "7")
    assert "time       1 m 01 s" in step.lines()


async def test_a_wrong_address_is_a_setting_error(penstock: CommandLine) -> None:
    result = await penstock.run("list", "--address", "http://x:1/")
    assert result.code == 2
    assert "address" in result.err
    assert "host:port" in result.err
    assert "Value error" not in result.err


async def test_unknown_commands_and_options_are_usage_errors(penstock: CommandLine) -> None:
    result = await penstock.run("lst")
    assert (result.code, "did you mean 'list'?" in result.err) == (2, True)
    assert (await penstock.run("list", "--nope")).code == 2
    assert (await penstock.run("--version")).out.startswith("penstock ")


async def test_a_closed_pipe_is_no_trace(peer: Peer, penstock: CommandLine) -> None:
    peer.lines = [wire.line("a", number, "x" * 1_000) for number in range(1, 2_000)]
    process = await penstock.start("logs", "run-1")
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(60):
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # the reader goes away
        err = await process.stderr.read()
        await process.wait()
    assert b"Traceback" not in err
