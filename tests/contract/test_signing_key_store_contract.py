"""What the store of signing keys promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

from tests.contract.backends import Backend

from penstock_coordinator.ports import SigningKey, Stores

ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


async def test_the_first_key_is_made_once(stores: Stores) -> None:
    assert await stores.signing_keys.keys(5) == []
    (first,) = await stores.signing_keys.ensure(ONE, 5)
    assert first == SigningKey(first.number, ONE, 5, None)
    assert await stores.signing_keys.ensure(TWO, 6) == [first]
    assert await stores.signing_keys.keys(7) == [first]


async def test_of_several_that_start_at_once_one_makes_the_key(backend: Backend) -> None:
    opened = [await backend.open(f"c{number}") for number in range(3)]
    secrets = (ONE, TWO, THREE)
    found = await asyncio.gather(
        *(stores.signing_keys.ensure(secret, 5) for stores, secret in zip(opened, secrets, strict=True))
    )
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1


async def test_the_newest_key_comes_first_and_the_others_expire(stores: Stores) -> None:
    (first,) = await stores.signing_keys.ensure(ONE, 5)
    second = await stores.signing_keys.rotate(TWO, 10, 100)
    assert second == SigningKey(second.number, TWO, 10, None)
    assert second.number > first.number
    assert await stores.signing_keys.keys(99) == [second, SigningKey(first.number, ONE, 5, 100)]
    assert await stores.signing_keys.keys(100) == [second]


async def test_a_key_never_expires_later_than_was_said(stores: Stores) -> None:
    (first,) = await stores.signing_keys.ensure(ONE, 5)
    second = await stores.signing_keys.rotate(TWO, 10, 100)
    third = await stores.signing_keys.rotate(THREE, 20, 200)
    assert await stores.signing_keys.keys(20) == [
        third,
        SigningKey(second.number, TWO, 10, 200),
        SigningKey(first.number, ONE, 5, 100),
    ]
    fourth = await stores.signing_keys.rotate(ONE, 150, 150)
    assert await stores.signing_keys.keys(150) == [fourth]
    assert fourth.number > third.number


def test_a_key_is_printed_without_its_secret() -> None:
    assert "1" not in repr(SigningKey(7, b"1" * 32, 0)).removeprefix("SigningKey(number=7")
