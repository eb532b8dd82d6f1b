"""The blocking client, in a process of its own: one process must not have two loops that use gRPC."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.sdk.command_line import EXAMPLES
from tests.integration.sdk.peer import Peer

from penstock.v1 import pipeline_pb2

SCRIPT = """
import asyncio, pathlib, sys, threading
from penstock import SyncClient, errors
sys.path.insert(0, {examples!r})
from chain import chain

with SyncClient({address!r}) as client:
    handle = client.start(chain, {{"n": 7}})
    print([event.number for event in handle.watch()])
    print(handle.wait(raise_on_failure=True).pipeline, handle.result("subtract"))
    print([run.id for run in client.list_runs()], [each.id for each in client.start_many("chain", [{{}}, {{}}])])
    for event in handle.watch():
        break
    try:
        client.get_run("nope")
    except errors.NotFoundError as error:
        print(error.code)

    # From several threads, and from a thread whose own loop is running.
    results = []
    threads = [threading.Thread(target=lambda: results.append(client.get_run("run-1").id)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(results)

    async def inside():
        return client.get_run("run-1").id
    print(asyncio.run(inside()))
with SyncClient({address!r}) as second:
    print(sum("penstock-client" in thread.name for thread in threading.enumerate()), second.run("run-1").get().id)
"""


async def run_script(text: str) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return out.decode(), err.decode()


async def test_the_blocking_client_does_all_that_the_other_does(peer: Peer) -> None:
    out, err = await run_script(SCRIPT.format(examples=str(EXAMPLES), address=peer.address))
    assert err == ""
    assert out.splitlines() == [
        "[1, 2, 3, 4, 5, 6, 7, 8]",
        "chain subtract",
        "['run-1'] ['run-2', 'run-3']",
        "NOT_FOUND",
        "['run-1', 'run-1', 'run-1', 'run-1']",
        "run-1",
        "1 run-1",
    ]


async def test_a_script_can_start_its_own_pipeline(peer: Peer, tmp_path: Path) -> None:
    """Functions of __main__ are named by their file's module."""
    script = tmp_path / "own.py"
    script.write_text(
        "from penstock import SyncClient, pipeline, step\n"
        "@step\ndef a(): ...\n"
        "@pipeline\ndef own(): a()\n"
        "if __name__ == '__main__':\n"
        f"    with SyncClient({peer.address!r}) as client:\n"
        "        print(client.start(own).wait().pipeline)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out_bytes, err_bytes = await process.communicate()
    assert (out_bytes.decode(), err_bytes.decode()) == ("own\n", "")
    assert peer.pipelines["own"][0].spec.steps[0].function.module == "own"


async def test_the_events_of_a_broken_watch_come_once(peer: Peer) -> None:
    run = peer.add_run(pipeline_pb2.PipelineSpec(name="p", steps=[pipeline_pb2.StepSpec(name="a")]), 1)
    peer.breaks.extend([1, 1])
    out, err = await run_script(
        "from penstock import SyncClient\n"
        f"with SyncClient({peer.address!r}) as client:\n"
        f"    print([event.number for event in client.watch({run.id!r})])\n"
    )
    assert (out, err) == ("[1, 2, 3, 4]\n", "")
