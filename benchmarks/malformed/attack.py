"""The attacker: a process of its own, so that healthy callers do not share an interpreter with it.

It prints one JSON object: how calls ended by code, what ended as it must not, and where a secret was found.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from benchmarks.malformed.frames import Method, frames, methods, prelude
from benchmarks.malformed.garbage import connect
from penstock.client.channel import OPTIONS

SECRET_VARIABLE = "MALFORMED_SECRET"
"""What must not be in any answer."""
TRACES = ("postgresql://", "Traceback (most", '.py", line', "asyncpg", "/penstock_coordinator/")
WINDOW_SECONDS = 5.0
CALL_SECONDS = 6.0
"""An agent's stream without a word is ended after 5 s."""
MOST_AT_ONCE = 200
MOST_ANSWERS = 50
WRONG = {"UNKNOWN", "INTERNAL"}
LOST = "Internal error from Core"
"""What the client's library says itself when it wrote to a call that the server had just ended: the status that the
server gave is lost."""
SKIPPED = frozenset({"/penstock.v1.JanitorService/Run"})
"""Takes a pass over the whole database, whatever it is asked."""
EXAMPLES = 20


@dataclass
class Findings:
    codes: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    connections: int = 0
    wrong: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    failed_connections: Counter[str] = field(default_factory=Counter)

    def look(self, where: str, said: str, secret: str) -> None:
        for word in (secret, *TRACES):
            if word and word in said and len(self.leaks) < EXAMPLES:
                self.leaks.append(f"{where}: {said[:500]}")


@dataclass(frozen=True, slots=True)
class Attack:
    address: str
    http_address: str
    frames: int
    connections: int
    seconds: float
    """In all, in windows of WINDOW_SECONDS with as long a pause after each."""
    begin: float
    """Of the first window, by the machine's monotonic clock."""
    seed: int
    secret: str = ""


async def attack(plan: Attack) -> Findings:
    """Spread evenly over the seconds."""
    findings = Findings()
    gate = asyncio.Semaphore(MOST_AT_ONCE)
    # Small windows of HTTP/2 would make the attacker wait for itself.
    channels = [
        grpc.aio.insecure_channel(plan.address, options=(*OPTIONS, ("grpc.use_local_subchannel_pool", 1)))
        for _ in range(4)
    ]
    jobs = [
        asyncio.create_task(_send_frames(plan, channels, gate, findings)),
        asyncio.create_task(_connect_all(plan, gate, findings)),
    ]
    await asyncio.gather(*jobs)
    for channel in channels:
        await channel.close()
    return findings


async def _send_frames(
    plan: Attack, channels: list[grpc.aio.Channel], gate: asyncio.Semaphore, findings: Findings
) -> None:
    attacked = [method for method in methods() if method.path not in SKIPPED]
    sources = {method.path: frames(method, plan.seed) for method in attacked}
    calls = []
    for number, pause in enumerate(_paces(plan.frames, plan)):
        await pause()
        method = attacked[number % len(attacked)]
        await gate.acquire()
        calls.append(
            asyncio.create_task(
                _call(channels[number % len(channels)], method, sources[method.path], plan.secret, findings)
            )
        )
        calls[-1].add_done_callback(lambda _: gate.release())
    await asyncio.gather(*calls)


async def _call(
    channel: grpc.aio.Channel, method: Method, source: Iterator[tuple[str, bytes]], secret: str, findings: Findings
) -> None:
    kind, data = next(source)
    where = f"{method.path} {kind} {data[:80].hex()}"
    try:
        before = prelude(method, findings.frames)
        said = await _answer(channel, method, [*before, data] if before or method.streams_in else [data])
        code = "OK"
    except grpc.aio.AioRpcError as error:
        code = "LOST" if error.details() == LOST else error.code().name
        metadata = error.trailing_metadata() or ()
        said = f"{error.details()} {[value for _, value in metadata]!r}"
    findings.frames += 1
    findings.codes[code] += 1
    if code in WRONG and len(findings.wrong) < EXAMPLES:
        findings.wrong.append(f"{code}: {where}: {said[:300]}")
    findings.look(where, said, secret)


async def _answer(channel: grpc.aio.Channel, method: Method, data: list[bytes]) -> str:
    request: Any = iter(data) if method.streams_in else data[0]
    if not method.streams_out:
        make = channel.stream_unary if method.streams_in else channel.unary_unary
        return repr(await make(method.path)(request, timeout=CALL_SECONDS))
    opened: Any = channel.stream_stream if method.streams_in else channel.unary_stream
    call = opened(method.path)(request, timeout=CALL_SECONDS)
    said = []
    try:
        async for answer in call:
            said.append(answer)
            if len(said) >= MOST_ANSWERS:
                break
    finally:
        call.cancel()
    return repr(said)


async def _connect_all(plan: Attack, gate: asyncio.Semaphore, findings: Findings) -> None:
    calls = []
    for number, pause in enumerate(_paces(plan.connections, plan)):
        await pause()
        # One in eight goes to the HTTP port, and all kinds of talk to both.
        to = plan.http_address if number % 64 >= 56 else plan.address
        await gate.acquire()
        calls.append(asyncio.create_task(_connect(to, number, plan, findings)))
        calls[-1].add_done_callback(lambda _: gate.release())
    await asyncio.gather(*calls)


async def _connect(address: str, number: int, plan: Attack, findings: Findings) -> None:
    host, _, port = address.rpartition(":")
    try:
        kind, came = await connect((host, int(port)), number, plan.seed)
    except OSError as error:
        findings.failed_connections[type(error).__name__] += 1
        return
    findings.connections += 1
    findings.look(f"connection {kind}", came.decode("utf-8", "replace"), plan.secret)


def _paces(count: int, plan: Attack) -> Iterator[Any]:
    """For each of them what to wait for."""

    def pause(number: int) -> Any:
        windows, rest = divmod(number * plan.seconds / count, WINDOW_SECONDS)
        due = plan.begin + 2 * windows * WINDOW_SECONDS + rest
        return lambda: asyncio.sleep(max(due - time.monotonic(), 0))

    return (pause(number) for number in range(count))


def main() -> None:
    address, http_address, count, connections, seconds, begin, seed = sys.argv[1:]
    # Attackers have machines of their own: this one must not take the time of the healthy callers on the same one.
    os.nice(10)
    secret = os.environ.get(SECRET_VARIABLE, "")
    plan = Attack(address, http_address, int(count), int(connections), float(seconds), float(begin), int(seed), secret)
    findings = asyncio.run(attack(plan))
    sys.stdout.write(json.dumps(findings.__dict__) + "\n")


if __name__ == "__main__":
    main()
