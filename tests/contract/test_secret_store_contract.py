"""What the store of secrets promises, on PostgreSQL and in memory."""

from __future__ import annotations

from penstock_coordinator.ports import SecretRow, Stores


async def test_a_secret_is_made_and_changed(stores: Stores) -> None:
    secrets = stores.secrets
    assert await secrets.get(["db"]) == []
    assert await secrets.put("db", "k1", b"\0one", 5) == SecretRow("db", "k1", b"\0one", 5, 5)
    assert await secrets.put("db", "k2", b"two", 9) == SecretRow("db", "k2", b"two", 5, 9)
    assert await secrets.get(["db", "other"]) == [SecretRow("db", "k2", b"two", 5, 9)]


async def test_secrets_are_listed_by_the_bytes_of_their_names(stores: Stores) -> None:
    for name in ("b", "B", "a.1", "a-1"):
        await stores.secrets.put(name, "k1", b"x", 5)
    listed = [row.name for row in await stores.secrets.list_secrets(10)]
    assert listed == ["B", "a-1", "a.1", "b"]
    assert [row.name for row in await stores.secrets.list_secrets(2, "B")] == ["a-1", "a.1"]


async def test_a_deleted_secret_is_gone(stores: Stores) -> None:
    await stores.secrets.put("db", "k1", b"x", 5)
    assert await stores.secrets.delete("db") is True
    assert await stores.secrets.delete("db") is False
    assert await stores.secrets.list_secrets(10) == []


async def test_it_is_encrypted_again_unless_it_was_set_meanwhile(stores: Stores) -> None:
    row = await stores.secrets.put("db", "k1", b"old", 5)
    assert await stores.secrets.replace(row, "k2", b"again") is True
    assert await stores.secrets.get(["db"]) == [SecretRow("db", "k2", b"again", 5, 5)]
    assert await stores.secrets.replace(row, "k3", b"late") is False
    await stores.secrets.delete("db")
    assert await stores.secrets.replace(row, "k3", b"late") is False
    assert await stores.secrets.get(["db"]) == []
