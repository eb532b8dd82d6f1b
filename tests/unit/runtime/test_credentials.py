"""Credentials of leases, and signatures that name their key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

import pytest

from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.core.fleet.leases import Holder, LeaseTable
from penstock_coordinator.core.plan.model import Line
from penstock_coordinator.ports import Stores
from penstock_coordinator.runtime.credentials import Credentials, Keyring, LeaseOver, Signer, WrongCredential

RUN = bytes(range(16))
KEY = (RUN, 3, -1)
SECOND = 1_000_000


@dataclass
class Time:
    at: int = 1_000 * SECOND

    def now(self) -> int:
        return self.at

    def monotonic(self) -> int:
        return self.at


@dataclass
class Chance:
    drawn: int = 0

    def run_id(self) -> bytes:
        return RUN

    def key(self) -> bytes:
        self.drawn += 1
        return bytes([self.drawn]) * 32

    def jitter(self) -> float:
        return 0.5


@dataclass
class Place:
    """A coordinator, as far as keys are concerned."""

    stores: Stores
    time: Time
    chance: Chance
    leases: LeaseTable = field(default_factory=lambda: LeaseTable(30 * SECOND, 5 * SECOND))

    def __post_init__(self) -> None:
        self.keyring = Keyring(self.stores.signing_keys, self.time, self.chance)
        self.credentials = Credentials(self.keyring, self.leases)


def place(database: MemoryDatabase, time: Time, chance: Chance) -> Place:
    return Place(memory_stores(database, coordinator_id="c1", lanes=1), time, chance)


@pytest.fixture
async def here() -> Place:
    made = place(MemoryDatabase(), Time(), Chance())
    await made.keyring.load()
    return made


async def rotate(where: Place, others_live: int) -> None:
    now = where.time.now()
    await where.stores.signing_keys.rotate(where.chance.key(), now, now + others_live)


async def test_a_credential_is_good_for_its_own_lease_alone(here: Place) -> None:
    credential = here.credentials.issue(KEY, 9)
    assert len(credential) == 32
    await here.credentials.verify(KEY, 9, credential)
    others = [((RUN, 3, -1), 10), ((RUN, 4, -1), 9), ((RUN, 3, 0), 9), ((RUN[::-1], 3, -1), 9)]
    for key, token in others:
        with pytest.raises(WrongCredential):
            await here.credentials.verify(key, token, credential)


@pytest.mark.parametrize(
    ("key", "token", "credential"),
    [
        (KEY, 9, ""),
        (KEY, 9, "0" * 32),
        (KEY, 9, "é" * 16),
        (KEY, 9, "\ud800"),
        ((b"", 3, -1), 9, "0" * 32),
        ((RUN + b"x", 3, -1), 9, "0" * 32),
        ((RUN, -1, -1), 9, "0" * 32),
        ((RUN, 3, 1 << 64), 9, "0" * 32),
        (KEY, 1 << 64, "0" * 32),
    ],
)
async def test_nonsense_is_no_credential(here: Place, key: tuple[bytes, int, int], token: int, credential: str) -> None:
    with pytest.raises(WrongCredential):
        await here.credentials.verify(key, token, credential)


async def test_a_run_id_of_another_length_is_not_padded_to_one_that_fits(here: Place) -> None:
    short = (RUN[:15], 3, -1)
    padded = (RUN[:15] + b"\0", 3, -1)
    with pytest.raises(WrongCredential):
        await here.credentials.verify(short, 9, here.credentials.issue(padded, 9))


async def test_a_lease_has_to_be_alive_besides(here: Place) -> None:
    credential = here.credentials.issue(KEY, 9)
    with pytest.raises(LeaseOver):
        await here.credentials.require_live(KEY, 9, credential)
    holder = here.leases.add_holder(Holder("a1", 1, "boot", here.time.now()))
    here.leases.add(holder, KEY, 9, 1, Line("", (), (), ""))
    await here.credentials.require_live(KEY, 9, credential)
    with pytest.raises(LeaseOver):
        await here.credentials.require_live(KEY, 8, here.credentials.issue(KEY, 8))
    here.leases.end(KEY, 9)
    with pytest.raises(LeaseOver):
        await here.credentials.require_live(KEY, 9, credential)


async def test_what_a_former_key_signed_is_good_until_it_expires(here: Place) -> None:
    credential = here.credentials.issue(KEY, 9)
    await rotate(here, 60 * SECOND)
    await here.keyring.refresh()
    assert here.credentials.issue(KEY, 9) != credential
    await here.credentials.verify(KEY, 9, credential)
    here.time.at += 60 * SECOND
    with pytest.raises(WrongCredential):
        await here.credentials.verify(KEY, 9, credential)
    await here.credentials.verify(KEY, 9, here.credentials.issue(KEY, 9))


async def test_a_key_that_another_coordinator_made_is_found_when_it_is_needed() -> None:
    database, time, chance = MemoryDatabase(), Time(), Chance()
    one, other = (place(database, time, chance) for _ in range(2))
    await one.keyring.load()
    await other.keyring.load()
    await rotate(other, 60 * SECOND)
    await other.keyring.refresh()
    await one.credentials.verify(KEY, 9, other.credentials.issue(KEY, 9))
    await rotate(other, 60 * SECOND)
    await other.keyring.refresh()
    with pytest.raises(WrongCredential):  # Nobody makes it read the database for each wrong credential.
        await one.credentials.verify(KEY, 9, other.credentials.issue(KEY, 9))
    time.at += SECOND
    await one.credentials.verify(KEY, 9, other.credentials.issue(KEY, 9))


async def test_a_signature_names_its_key_and_is_of_one_purpose(here: Place) -> None:
    signer, other = Signer(here.keyring, "artifact"), Signer(here.keyring, "download")
    number, signature = signer.sign(b"GET /x")
    assert await signer.verify(number, b"GET /x", signature)
    assert not await signer.verify(number, b"PUT /x", signature)
    assert not await signer.verify(number + 1, b"GET /x", signature)
    assert not await signer.verify(number, b"GET /x", signature.upper())
    assert not await signer.verify(number, b"GET /x", "é")
    assert not await other.verify(number, b"GET /x", signature)
    await rotate(here, 60 * SECOND)
    await here.keyring.refresh()
    assert signer.sign(b"GET /x")[0] > number
    assert await signer.verify(number, b"GET /x", signature)
    here.time.at += 60 * SECOND
    assert not await signer.verify(number, b"GET /x", signature)


async def test_signatures_are_plain_hmac_sha256(here: Place) -> None:
    derived = hmac.digest(b"\1" * 32, b"artifact", hashlib.sha256)
    _, signature = Signer(here.keyring, "artifact").sign(b"GET /x")
    assert signature == hmac.new(derived, b"GET /x", hashlib.sha256).hexdigest()
