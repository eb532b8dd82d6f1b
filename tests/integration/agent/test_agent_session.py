"""The session: heartbeats, reconnects, results that are kept, drains."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import signal
from pathlib import Path

import psutil
import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import PATIENCE, Coordinator, seconds
from tests.integration.agent.processes import gone, is_alive, line_of, touch, written
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire

STEPS = """
import os, pathlib, time

def wait_for(started, path):
    pathlib.Path(started).write_text(f"{os.getpid()}\\n")
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return os.getpid()

def quick():
    return 1
"""


@pytest.fixture
async def digest(coordinator: Coordinator) -> str:
    return coordinator.add_bundle({"steps.py": STEPS})


@pytest.fixture
def waits(tmp_path: Path) -> dict[str, str]:
    return {"started": str(tmp_path / "started"), "path": str(tmp_path / "go")}


async def begun(coordinator: Coordinator, ref: wire.LeaseRef, waits: dict[str, str]) -> int:
    """The process id of the attempt once it waits; 0 if its lease was over before, as on a machine that is held up."""

    async def is_known() -> bool:
        over = [each.lease for each in coordinator.results] + [each.lease for each in coordinator.rejected]
        return ref in over or bool(line_of(Path(waits["started"])))

    await until(is_known)
    return int(line_of(Path(waits["started"])) or 0)


async def test_hello_says_who_the_agent_is(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start("--id", "agent-1", "-q", "a", "-q", "b", "-l", "zone=1", "--resource", "gpu=2", slots=3)
    hello = coordinator.session.hello
    assert (hello.agent_id, list(hello.queues), dict(hello.labels), hello.slots) == (
        "agent-1", ["a", "b"], {"zone": "1"}, 3,
    )  # fmt: skip
    assert hello.resources["gpu"] == 2
    assert hello.resources["cpu"] >= 1
    assert hello.resources["memory_bytes"] > 2**20
    await coordinator.until(lambda: coordinator.session.grant_limit == 3)


async def test_heartbeats_name_what_is_held(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    await agents.start()
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    await written(waits["started"])
    beat = await coordinator.until(
        lambda: next((each.heartbeat for each in coordinator.session.heard if each.heartbeat.leases), None)
    )
    assert beat.leases[0].lease == ref
    last = await coordinator.until(
        lambda: next(
            (beat for beat in (each.heartbeat for each in coordinator.session.heard) if beat.leases and beat.echo), None
        )
    )
    assert last.disk_free_bytes > 0
    touch(waits["path"])
    await coordinator.result(ref)


async def test_a_running_step_survives_the_coordinators_restart(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    await agents.start()
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    pid = int(await written(waits["started"]))
    await coordinator.stop()
    coordinator.epoch = 2
    await coordinator.start(coordinator.port)
    await coordinator.until(lambda: len(coordinator.sessions) > 1)
    hello = coordinator.session.hello
    assert [(held.lease, held.phase) for held in hello.held_leases] == [(ref, wire.LEASE_PHASE_RUNNING)]
    assert (hello.last_session_epoch, hello.highest_coordinator_epoch_seen) == (1, 1)
    touch(waits["path"])
    assert json.loads((await coordinator.result(ref)).output) == pid


async def test_an_older_coordinator_is_refused(coordinator: Coordinator, agents: Agents) -> None:
    coordinator.epoch = 5
    await agents.start()
    await coordinator.stop()
    coordinator.epoch = 4
    await coordinator.start(coordinator.port)
    await coordinator.until(lambda: len(coordinator.sessions) > 3)
    assert coordinator.session.grant_limit == 0
    coordinator.epoch = 6
    await coordinator.until(lambda: coordinator.session.grant_limit > 0)


async def test_an_aborted_lease_is_killed_and_forgotten(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    await agents.start()
    await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    pid = int(await written(waits["started"]))
    coordinator.verdict_of = lambda held: wire.VERDICT_ABORT
    await coordinator.stop()
    await coordinator.start(coordinator.port)
    await gone(pid)
    # A heartbeat may have been on its way before the agent saw that the process was gone.
    await coordinator.until(lambda: any(_names_nothing(each) for each in coordinator.session.heard))
    assert not coordinator.results


def _names_nothing(word: wire.AgentMessage) -> bool:
    return word.HasField("heartbeat") and not word.heartbeat.leases


async def test_a_result_is_sent_until_it_is_acknowledged(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    coordinator.acknowledge = False
    await agents.start()
    await coordinator.run(coordinator.function(digest, "steps:quick"))
    await coordinator.until(lambda: len(coordinator.results) >= 3)
    assert len({result.result_id for result in coordinator.results}) == 1
    ages = [result.age.ToMicroseconds() for result in coordinator.results]
    assert ages == sorted(ages)
    assert ages[-1] > 300_000
    await coordinator.ack(coordinator.session, coordinator.results[:1])
    count = await coordinator.until(
        lambda: next(
            (
                len(coordinator.results)
                for each in coordinator.session.heard[-1:]
                if each.HasField("heartbeat") and not each.heartbeat.leases
            ),
            0,
        )
    )
    await coordinator.until(lambda: len([1 for each in coordinator.session.heard if each.HasField("heartbeat")]) > 8)
    assert len(coordinator.results) == count


async def test_a_result_survives_kill_9_and_is_sent_with_a_new_boot_id(
    coordinator: Coordinator, agents: Agents, digest: str
) -> None:
    coordinator.acknowledge = False
    agent = await agents.start()
    first = await coordinator.run(coordinator.function(digest, "steps:quick"))
    await coordinator.until(
        lambda: any(each.heartbeat.spool_depth == 1 for each in coordinator.session.heard if each.HasField("heartbeat"))
    )
    await coordinator.until(lambda: len(coordinator.results) >= 2)
    agent.kill()
    await agent.wait()
    before = coordinator.session.hello
    coordinator.results.clear()
    coordinator.verdict_of = lambda held: wire.VERDICT_SEND_RESULT
    await agents.start()
    hello = coordinator.session.hello
    assert hello.agent_id == before.agent_id
    assert hello.boot_id != before.boot_id
    assert [held.phase for held in hello.held_leases] == [wire.LEASE_PHASE_FINISHED_UNACKED]
    again = await coordinator.result(first.lease)
    assert (again.result_id, again.output) == (first.result_id, first.output)
    await coordinator.ack(coordinator.session, [again])
    await coordinator.until(
        lambda: (
            coordinator.session.heard[-1].HasField("heartbeat")
            and coordinator.session.heard[-1].heartbeat.spool_depth == 0
        )
    )


async def test_a_lease_that_runs_out_ends_its_step(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    coordinator.answer_heartbeats = False
    coordinator.heartbeat_interval = 60
    await agents.start()
    for ttl in (5.0, 20.0, 80.0):
        coordinator.ttl = ttl
        (ref,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
        if pid := await begun(coordinator, ref, waits):
            break
    result = await coordinator.result(ref, ttl + PATIENCE)
    assert result.status == wire.RESULT_STATUS_LEASE_EXPIRED
    assert pid, "it had begun before"
    assert not is_alive(pid)


async def test_heartbeats_keep_a_lease_alive(
    coordinator: Coordinator, agents: Agents, digest: str, tmp_path: Path
) -> None:
    await agents.start()
    beats = coordinator.session.beats
    for ttl in (3.0, 12.0, 48.0):
        coordinator.ttl, first = ttl, len(beats)
        waits = {"started": str(tmp_path / f"started-{ttl}"), "path": str(tmp_path / f"go-{ttl}")}
        (ref,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
        if not await begun(coordinator, ref, waits):
            continue
        await coordinator.until(functools.partial(_has_more, beats, first + 3.4 * ttl), patience=5 * ttl + PATIENCE)
        touch(waits["path"])
        if (await coordinator.result(ref)).status == wire.RESULT_STATUS_OK:
            return
        late = max(later - earlier for earlier, later in itertools.pairwise(beats[max(first - 1, 0) :]))
        assert late > ttl / 2, "the lease ended although nothing held the machine up"
    raise AssertionError("the machine was held up again and again")


def _has_more(beats: list[float], than: float) -> bool:
    return len(beats) > than


async def test_grants_that_cannot_be_taken_are_rejected(coordinator: Coordinator, agents: Agents, digest: str) -> None:
    await agents.start(slots=1)
    await coordinator.until(lambda: coordinator.session.grant_limit == 1)
    spec = coordinator.function(digest, "steps:quick")
    grants = [coordinator.new_grant(1, spec, first=number == 0) for number in range(3)]
    await coordinator.send_grants(grants)
    await coordinator.until(lambda: len(coordinator.rejected) == 2)
    assert {each.reason for each in coordinator.rejected} == {"over_capacity"}
    await coordinator.result(grants[0].lease)
    late = coordinator.new_grant(1, spec, first=False)
    coordinator.rejected.clear()
    await coordinator.until(lambda: coordinator.session.grant_limit >= late.grant_seq)
    await coordinator.send_grants([late], ttl=0)
    await coordinator.until(lambda: coordinator.rejected)
    assert coordinator.rejected[0].reason == "deadline_passed"


async def test_a_bundle_that_is_not_there_is_a_rejection(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    (ref,) = await coordinator.grant(coordinator.function("0" * 64, "steps:quick"))
    await coordinator.until(lambda: coordinator.rejected)
    assert (coordinator.rejected[0].lease, coordinator.rejected[0].reason) == (ref, "bundle_unavailable")
    assert coordinator.fetched == ["0" * 64] * 3


async def test_sigterm_lets_running_steps_end(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    agent = await agents.start(slots=1)
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    pid = int(await written(waits["started"]))
    agent.send_signal(signal.SIGTERM)
    await coordinator.until(lambda: any(each.HasField("draining") for each in coordinator.session.heard))
    assert is_alive(pid)
    touch(waits["path"])
    assert (await coordinator.result(ref)).status == wire.RESULT_STATUS_OK
    assert await agent.wait() == 0
    assert coordinator.goodbyes
    assert coordinator.session.heard[-1].HasField("goodbye")
    await gone(pid)


async def test_what_has_not_started_is_handed_back_by_a_drain(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    agent = await agents.start(slots=1)
    await coordinator.takes_at_once(4, coordinator.function(digest, "steps:quick"))
    (long,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    await written(waits["started"])
    waiting = await coordinator.grant(coordinator.function(digest, "steps:quick"), 3)
    # What comes in after the signal is rejected instead.
    await coordinator.until(lambda: all(ref in coordinator.accepted for ref in waiting))
    agent.send_signal(signal.SIGTERM)
    await coordinator.until(lambda: len(coordinator.returned) == 3)
    assert sorted(each.lease.step for each in coordinator.returned) == sorted(ref.step for ref in waiting)
    assert not any(each.started for each in coordinator.returned)
    agent.send_signal(signal.SIGTERM)
    await coordinator.until(lambda: len(coordinator.returned) == 4)
    assert (coordinator.returned[3].lease, coordinator.returned[3].started) == (long, True)
    assert await agent.wait() == 0


async def test_a_drain_by_the_coordinator_with_a_deadline(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    agent = await agents.start(slots=1)
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    await written(waits["started"])
    await coordinator.session.say(drain=wire.Drain(deadline=seconds(0.3), reason="requested"))
    await coordinator.until(lambda: coordinator.returned)
    assert (coordinator.returned[0].lease, coordinator.returned[0].started) == (ref, True)
    assert await agent.wait() == 0


async def test_an_agent_without_a_coordinator_ends_at_sigterm(coordinator: Coordinator, agents: Agents) -> None:
    agent = await agents.start()
    await coordinator.stop()
    agent.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(agent.wait(), 60) == 0


async def test_a_guardian_that_does_not_answer_keeps_no_agent_from_ending(agents: Agents) -> None:
    """On a busy machine it may not even have begun."""
    agent = await agents.start()
    children = psutil.Process(agent.pid).children()
    (guardian,) = (each for each in children if "penstock_agent.executors.guardian" in each.cmdline())
    guardian.suspend()
    agent.send_signal(signal.SIGTERM)
    assert await agent.wait() == 0
    assert not is_alive(guardian.pid)


async def test_return_calls_back_what_has_not_started(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str]
) -> None:
    await agents.start(slots=1)
    await coordinator.takes_at_once(3, coordinator.function(digest, "steps:quick"))
    (long,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    waiting = await coordinator.grant(coordinator.function(digest, "steps:quick"), 2)
    await written(waits["started"])
    await coordinator.session.say(return_leases=wire.Return(leases=[long, *waiting]))
    await coordinator.until(lambda: len(coordinator.returned) == 2)
    assert {each.lease.step for each in coordinator.returned} == {ref.step for ref in waiting}
    touch(waits["path"])
    await coordinator.result(long)


async def test_goaway_and_redirect(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    await coordinator.session.say(goaway=wire.Goaway(reason="shutdown", reconnect_after=seconds(0.05)))
    await coordinator.until(lambda: len(coordinator.sessions) == 2)
    other = Coordinator()
    await other.start()
    try:
        await coordinator.session.say(redirect=wire.Redirect(address=other.address))
        await other.until(lambda: other.sessions)
    finally:
        await other.stop()
    await coordinator.until(lambda: len(coordinator.sessions) == 3)


async def test_an_agent_that_is_sent_away_says_why_and_asks_again(coordinator: Coordinator, agents: Agents) -> None:
    why = "this coordinator speaks version 7 of the agent protocol, the agent 1: upgrade the older one"
    coordinator.turn_away = wire.Goaway(reason="too_old", reconnect_after=seconds(0.05), message=why)
    process = await agents.start(connected=False)
    await coordinator.until(lambda: coordinator.turned_away > 2)
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while why.encode() not in (line := await process.stderr.readline()):
            pass
    assert b"too_old" in line
    assert process.returncode is None
    coordinator.turn_away = None
    await coordinator.until(lambda: coordinator.sessions and coordinator.session.grant_limit)


async def test_words_of_a_newer_coordinator_are_passed_over(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    unknown = wire.CoordinatorMessage.FromString(b"\xfa\x01\x03new")  # field 31
    session = coordinator.session
    session.seq += 1
    unknown.seq = session.seq
    await session.call.write(unknown)
    spec = wire.TaskSpec(command=wire.CommandTask(argv=["true"]))
    assert (await coordinator.run(spec)).status == wire.RESULT_STATUS_OK
    assert len(coordinator.sessions) == 1


async def test_the_lease_of_an_unknown_kind_of_task_is_rejected(coordinator: Coordinator, agents: Agents) -> None:
    await agents.start()
    await coordinator.grant(wire.TaskSpec())
    await coordinator.until(lambda: coordinator.rejected)
    assert [each.reason for each in coordinator.rejected] == ["unsupported_task"]
    assert len(coordinator.sessions) == 1


async def test_two_agents_do_not_share_a_folder(agents: Agents) -> None:
    await agents.start()
    second = await agents.start(connected=False)
    assert await second.wait() == 1
    assert second.stderr is not None
    said = (await second.stderr.read()).decode()
    assert "--data-dir" in said
    assert str(agents.started[0].pid) in said


async def test_a_newer_token_replaces_the_attempt(
    coordinator: Coordinator, agents: Agents, digest: str, waits: dict[str, str], tmp_path: Path
) -> None:
    await agents.start(slots=2)
    (old,) = await coordinator.grant(coordinator.function(digest, "steps:wait_for"), inputs=waits)
    pid = int(await written(waits["started"]))
    spec = coordinator.function(digest, "steps:quick")
    new = coordinator.new_grant(77, spec)
    new.lease.step = old.step
    await coordinator.until(lambda: coordinator.session.grant_limit >= new.grant_seq)
    await coordinator.send_grants([new])
    result = await coordinator.result(new.lease)
    assert result.status == wire.RESULT_STATUS_OK
    assert not is_alive(pid)
    assert [each.lease.token for each in coordinator.results] == [new.lease.token]


async def test_an_agent_that_is_low_on_disk_says_so(
    coordinator: Coordinator, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_DISK_FLOOR_BYTES", str(1 << 60))
    process = await agents.start()
    (session,) = coordinator.sessions
    await coordinator.until(lambda: any(word.heartbeat.disk_low for word in session.heard))
    assert session.grant_limit == 0
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"PENSTOCK_AGENT_DISK_FLOOR_BYTES" not in await process.stderr.readline():
            pass
