"""Parts of the runtime against a real server: bundles that are hostile or wrong, and lines that nobody takes."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator, bundle_of
from tests.unit.archives.hostile_archives import HOSTILE, file, pack
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1.bundle_service_pb2_grpc import BundleServiceStub
from penstock_agent.executors.channel import STDOUT, LogLines
from penstock_agent.runtime import log_pushes
from penstock_agent.runtime import logs as relays
from penstock_agent.runtime.archive import BadArchive, Bounds
from penstock_agent.runtime.bundles import BundleCache, BundleLimits, BundleUnavailable
from penstock_agent.runtime.logs import LogRelay


@pytest.fixture
async def channel(coordinator: Coordinator) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(coordinator.address) as channel:
        yield channel


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def hostile() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("steps.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return gzip.compress(buffer.getvalue())


async def test_a_hostile_bundle_fails_the_step(coordinator: Coordinator, agents: Agents, tmp_path: Path) -> None:
    await agents.start()
    digest = coordinator.add_bundle(hostile())
    result = await coordinator.run(coordinator.function(digest, "steps:add"))
    assert (result.status, result.error.reason) == (wire.RESULT_STATUS_FAILED, "ModuleImport")
    assert "leads out of the bundle" in result.error.message
    assert names_in(tmp_path / "agent" / "bundles") == set()


async def test_one_digest_is_fetched_once(coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path) -> None:
    digest = coordinator.add_bundle({"a.py": "x = 1\n"})
    cache = BundleCache(tmp_path, BundleLimits(), set)
    cache.use(BundleServiceStub(channel))
    paths = await asyncio.gather(*(cache.get(digest) for _ in range(5)))
    assert {(path / "a.py").read_text() for path in paths} == {"x = 1\n"}
    assert coordinator.fetched == [digest]
    assert BundleCache(tmp_path, BundleLimits(), set).path(digest) == paths[0]


async def test_what_has_another_digest_is_not_taken(
    coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    coordinator.bundles["0" * 64] = bundle_of({"a.py": ""})
    cache = BundleCache(tmp_path, BundleLimits(), set)
    cache.use(BundleServiceStub(channel))
    with pytest.raises(BundleUnavailable, match="another digest"):
        await cache.get("0" * 64)
    with pytest.raises(BundleUnavailable, match="no digest"):
        await cache.get("../../etc")
    assert names_in(tmp_path) == set()


async def test_unused_bundles_make_room(coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path) -> None:
    digests = [coordinator.add_bundle({"a.py": "x" * 1000 + str(number)}) for number in range(4)]
    cache = BundleCache(tmp_path, BundleLimits(2_500), lambda: {digests[0]})
    cache.use(BundleServiceStub(channel))
    for digest in digests:
        await cache.get(digest)
    assert names_in(tmp_path) == {digests[0], digests[3]}
    assert cache.path(digests[1]) is None


async def test_no_more_bundles_are_kept_than_may_be(
    coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    digests = [coordinator.add_bundle({"a.py": str(number)}) for number in range(4)]
    cache = BundleCache(tmp_path / "kept", BundleLimits(kept=2), lambda: {digests[0]})
    cache.use(BundleServiceStub(channel))
    for digest in digests:
        await cache.get(digest)
    assert names_in(tmp_path / "kept") == {digests[0], digests[3]}
    assert cache.path(await _name_of(cache, digests[1])), "it is fetched again"
    fewer = BundleCache(tmp_path / "kept", BundleLimits(kept=1), set)
    assert len(names_in(tmp_path / "kept")) == 1
    assert sum(fewer.path(digest) is not None for digest in digests) == 1


async def _name_of(cache: BundleCache, digest: str) -> str:
    return (await cache.get(digest)).name


async def test_bundles_of_before_the_machine_was_started_anew_are_fetched_again(
    coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    digest = coordinator.add_bundle({"a.py": ""})
    cache = BundleCache(tmp_path / "kept", BundleLimits(), set, "one start")
    cache.use(BundleServiceStub(channel))
    await cache.get(digest)
    assert BundleCache(tmp_path / "kept", BundleLimits(), set, "one start").path(digest)
    assert BundleCache(tmp_path / "kept", BundleLimits(), set, "the next").path(digest) is None
    assert names_in(tmp_path / "kept") == set()


async def test_hostile_bundles_are_refused_and_leave_nothing(
    coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    limits = BundleLimits(unpacked=Bounds("bundle", 1_000, 8 << 20))
    cache = BundleCache(tmp_path / "data" / "bundles", limits, set)
    cache.use(BundleServiceStub(channel))
    before = everything_in(tmp_path)
    for name, case in HOSTILE.items():
        packed = case.pack()
        if len(packed) > 100_000:
            continue
        with pytest.raises(BadArchive) as caught:
            await cache.get(coordinator.add_bundle(packed))
        assert any(each in str(caught.value) for each in case.says.split("|")), (name, caught.value)
        assert everything_in(tmp_path) == before, name


async def test_a_bundle_larger_than_the_agent_takes_is_refused(
    coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    cache = BundleCache(tmp_path / "bundles", BundleLimits(packed_bytes=1_000), set)
    cache.use(BundleServiceStub(channel))
    packed = pack(file("noise", os.urandom(2_000)))
    with pytest.raises(BadArchive, match="more than the 1,000 bytes of PENSTOCK_AGENT_MAX_BUNDLE_SIZE"):
        await cache.get(coordinator.add_bundle(packed))
    assert names_in(tmp_path / "bundles") == set()


_UNPACKS = """
import sys
from pathlib import Path
from penstock_agent.runtime.archive import unpack
folder = Path(sys.argv[1])
unpacked = folder / f"{sys.argv[2]}.new"
unpack(folder / f"{sys.argv[2]}.part", unpacked)
unpacked.rename(folder / sys.argv[2])
"""


def _is_there(path: Path) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return path in everything_in(path.parent.parent)

    return look


async def test_what_a_killed_agent_had_half_unpacked_is_not_taken_for_whole(tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    folder.mkdir()
    digest = "a" * 64
    packed = pack(*(file(f"f{number}", os.urandom(10_000)) for number in range(200)))
    part = folder / f"{digest}.part"
    os.mkfifo(part)  # so that it stands still in the middle
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _UNPACKS, str(folder), digest)
    try:
        with await asyncio.to_thread(part.open, "wb", 0) as feed:
            await asyncio.to_thread(feed.write, packed[: len(packed) // 2])
            await until(_is_there(folder / f"{digest}.new" / "f9"))
            process.kill()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert {path.suffix for path in folder.iterdir()} == {".part", ".new"}
    cache = BundleCache(folder, BundleLimits(), set)
    assert cache.path(digest) is None
    assert names_in(folder) == set()


async def test_a_fetch_waits_for_a_coordinator(
    coordinator: Coordinator, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    digest = coordinator.add_bundle({"a.py": ""})
    cache = BundleCache(tmp_path, BundleLimits(), set)
    fetch = asyncio.ensure_future(cache.get(digest))
    await asyncio.sleep(0)
    assert not fetch.done()
    cache.use(BundleServiceStub(channel))
    assert (await fetch).is_dir()


def lines(handle: int, first: int, count: int, size: int = 100) -> LogLines:
    return LogLines(handle, [(number, STDOUT, 0, "x" * size) for number in range(first, first + count)])


async def test_lines_are_kept_until_somebody_takes_them_and_go_when_it_says_so(
    coordinator: Coordinator, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_pushes, "LET_IN_WITHIN", 3_600)
    relay = LogRelay("agent")
    relay.introduce(1, wire.LeaseRef(token=9), 1)
    relay.add(lines(1, 1, 3))
    relay.add(lines(2, 1, 3))
    task = asyncio.ensure_future(relay.run())
    relay.use(AgentServiceStub(channel))
    await coordinator.until(lambda: len(coordinator.logs) == 3)
    relay.attempt_ended(1)
    relay.add(lines(1, 4, 1))
    await coordinator.until(lambda: len(coordinator.logs) == 4)
    relay.close()
    await task
    assert [record.number for _, record in coordinator.logs] == [1, 2, 3, 4]


async def test_a_full_buffer_holds_up_and_then_drops_the_oldest(
    coordinator: Coordinator, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "HELD_UP", 0.05)
    relay = LogRelay("agent")
    room = asyncio.Event()
    relay.on_room = room.set
    relay.introduce(1, wire.LeaseRef(token=9), 1)
    number = 1
    for _ in range(100):
        if not relay.is_full:
            relay.add(lines(1, number, 500, 1000))
            number += 500
    assert relays.FULL_BYTES * 0.9 < number * 1_000 < relays.FULL_BYTES * 1.2
    await asyncio.wait_for(room.wait(), 60)
    relay.use(AgentServiceStub(channel))
    task = asyncio.ensure_future(relay.run())
    await coordinator.until(lambda: coordinator.logs and coordinator.logs[-1][1].number == number - 1)
    numbers = [record.number for _, record in coordinator.logs]
    assert numbers == list(range(numbers[0], number))
    assert numbers[0] > 500
    relay.close()
    await task
