"""The ways to a Redis: a password, a user of few rights, TLS, a cluster."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import until

from penstock_coordinator.adapters.redis import RedisHotState
from penstock_coordinator.core.plan.model import Line
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.ports.board import BoardEntry, LineDemand, RunStatus
from penstock_coordinator.ports.post import Letter

PATIENCE = 60.0
ENTRY = BoardEntry(
    "a",
    3,
    7,
    (LineDemand(Line("default"), 12, 4, 5), LineDemand(Line("gpu", (("zone", "eu"),)), 0, 1)),
    (RunStatus(bytes(range(16)), "etl", "RUNNING", 1, 2, 3, 4, 5, 15),),
)
RIGHTS = "~penstock:{penstock}:* resetchannels -@all +@read +@write +@scripting +@connection +time -@dangerous"


async def all_works(url: str) -> None:
    redis = RedisHotState(url, "penstock", "a", PATIENCE)
    try:
        assert not await redis.probe()
        assert await redis.probe()
        await redis.board.publish(ENTRY, PATIENCE)
        (found,) = await redis.board.read()
        assert (set(found.entry.lines), found.entry.runs) == (set(ENTRY.lines), ENTRY.runs)
        await redis.post.send({"a": [Letter("kind", "b")]})
        assert await redis.post.receive("a", 1.0) == [Letter("kind", "b")]
        await redis.board.withdraw("a")
        assert await redis.board.read() == []
    finally:
        await redis.aclose()


async def test_people_see_decimal_numbers(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey") as server:
        redis = RedisHotState(server.url, "penstock", "a", PATIENCE)
        await redis.board.publish(ENTRY, PATIENCE)
        await redis.post.send({"b": [Letter("kind", "a")]})
        await redis.probe()
        queues = server.ask("HGETALL", "penstock:{penstock}:queues:a")
        assert queues[b"ready:default"] == b"12"
        assert queues[b"running:default"] == b"4"
        assert queues[b'running:gpu {"labels":[["zone","eu"]]}'] == b"1"
        assert (queues[b"epoch"], queues[b"live_runs"]) == (b"3", b"7")
        runs = server.ask("HGETALL", "penstock:{penstock}:runs:a")
        assert list(runs) == [bytes(range(16)).hex().encode()]
        assert b'"state":"RUNNING"' in runs[bytes(range(16)).hex().encode()]
        keys = server.ask("KEYS", "*")
        assert len(keys) == 5
        assert all(key.startswith(b"penstock:{penstock}:") for key in keys)
        assert all(server.ask("PTTL", key.decode()) > 0 for key in keys), "all of it goes away by itself"
        await redis.aclose()


async def test_a_password_and_another_database(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey", "--requirepass", "p@ss/w:rd") as server:
        await all_works(f"redis://:p%40ss%2Fw%3Ard@127.0.0.1:{server.port}/3")
        with pytest.raises(Unavailable):
            await all_works(server.url)


async def test_a_user_of_few_rights(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey") as server:
        server.ask("ACL", "SETUSER", "penstock", "on", ">sesame", *RIGHTS.split())
        await all_works(f"redis://penstock:sesame@127.0.0.1:{server.port}/0")
        server.ask("ACL", "SETUSER", "penstock", "resetkeys", "~others:*")
        with pytest.raises(Unavailable):
            await all_works(f"redis://penstock:sesame@127.0.0.1:{server.port}/0")


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself: the file of the certificate and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return files


@asynccontextmanager
async def behind_tls(server: ValkeyServer, files: tuple[Path, Path]) -> AsyncIterator[int]:
    """A port where the server, which has no TLS of its own, is reached by TLS alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    serving: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        both = {asyncio.create_task(forward(reader, inner_writer)), asyncio.create_task(forward(inner_reader, writer))}
        serving.update(both)
        await asyncio.wait(both)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    with running_valkey(tmp_path / "valkey", "--requirepass", "sesame") as server:
        async with behind_tls(server, files) as port:
            await all_works(f"rediss://:sesame@127.0.0.1:{port}/0?ssl_ca_certs={files[0]}")
            with pytest.raises(Unavailable):
                await all_works(f"rediss://:sesame@127.0.0.1:{port}/0")  # nobody vouches for it


async def test_a_cluster_whose_other_node_has_the_keys(tmp_path: Path) -> None:
    """All keys are in the slot of their hash tag: the node that is asked says which one has it."""
    flags = "--cluster-enabled", "yes", "--cluster-node-timeout", "60000"
    with running_valkey(tmp_path / "one", *flags) as one, running_valkey(tmp_path / "two", *flags) as two:
        slot = one.ask("CLUSTER", "KEYSLOT", "penstock:{penstock}:queues:a")
        one.ask("CLUSTER", "ADDSLOTSRANGE", *((0, slot - 1) if slot > 8_191 else (slot + 1, 16_383)))
        two.ask("CLUSTER", "ADDSLOTSRANGE", *((slot, 16_383) if slot > 8_191 else (0, slot)))
        one.ask("CLUSTER", "MEET", "127.0.0.1", two.port)

        async def is_complete() -> bool:
            return all("cluster_state:ok" in str(each.ask("CLUSTER", "INFO")) for each in (one, two))

        await until(is_complete, PATIENCE)
        await all_works(one.url)
        assert not one.ask("KEYS", "*")
