"""Secrets at rest: what is encrypted, with which key, and what is said when it cannot be."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from tests.unit.runtime.test_credentials import Time

from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.adapters.secret_cipher import AesGcmCipher, BadKey, read_keys
from penstock_coordinator.ports import SecretCipher
from penstock_coordinator.runtime.secrets import NoKey, SecretVault, Unreadable
from penstock_coordinator.settings import SettingsError, load_settings, shown_settings

OLD, NEW = bytes(32), bytes(range(32))
VALUE = "canary-wörd"
DATABASE = "postgresql://u:p@h/d"


def in_base64(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


def vault(database: MemoryDatabase, cipher: SecretCipher | None) -> SecretVault:
    return SecretVault(memory_stores(database, coordinator_id="c1", lanes=1).secrets, cipher, Time())


async def test_a_value_comes_back_and_is_not_in_the_database() -> None:
    database = MemoryDatabase()
    made = vault(database, AesGcmCipher([NEW]))
    await made.put("db", VALUE)
    await made.put("empty", "")
    assert await made.reveal(["db", "empty", "none"]) == {"db": VALUE, "empty": ""}
    assert VALUE.encode() not in database.secrets["db"].content


async def test_the_same_value_is_never_encrypted_to_the_same_bytes() -> None:
    database = MemoryDatabase()
    made = vault(database, AesGcmCipher([NEW]))
    await made.put("a", VALUE)
    await made.put("b", VALUE)
    assert database.secrets["a"].content != database.secrets["b"].content


async def test_two_secrets_that_are_exchanged_in_the_database_are_noticed() -> None:
    database = MemoryDatabase()
    made = vault(database, AesGcmCipher([NEW]))
    one, other = await made.put("a", "first"), await made.put("b", "second")
    database.secrets["a"] = type(one)("a", other.key_id, other.content, 0, 0)
    with pytest.raises(Unreadable, match="'a'"):
        await made.reveal(["a"])


async def test_without_a_key_nothing_is_kept_and_what_is_not_there_is_still_told() -> None:
    database = MemoryDatabase()
    made = vault(database, None)
    with pytest.raises(NoKey):
        await made.put("db", VALUE)
    with pytest.raises(NoKey):
        await made.rotate()
    assert await made.reveal(["db"]) == {}
    await vault(database, AesGcmCipher([NEW])).put("db", VALUE)
    with pytest.raises(NoKey):
        await made.reveal(["db"])


async def test_rotation_makes_the_old_key_superfluous() -> None:
    database = MemoryDatabase()
    await vault(database, AesGcmCipher([OLD])).put("db", VALUE)
    both = vault(database, AesGcmCipher([NEW, OLD]))
    await both.put("other", VALUE)
    with pytest.raises(Unreadable, match="key"):
        await vault(database, AesGcmCipher([NEW])).reveal(["db"])
    assert await both.rotate() == 1
    assert await both.rotate() == 0
    assert await vault(database, AesGcmCipher([NEW])).reveal(["db", "other"]) == {"db": VALUE, "other": VALUE}


def test_keys_are_read_newest_first() -> None:
    assert read_keys(f"{in_base64(NEW)},\n{base64.b64encode(OLD).decode()}") == [NEW, OLD]


@pytest.mark.parametrize("given", ["", "canary", in_base64(NEW[:31]), f"{in_base64(NEW)} canary"])
def test_a_bad_key_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(BadKey, match="new-key") as raised:
        read_keys(given)
    assert "canary" not in str(raised.value)


def test_the_key_is_a_setting_that_is_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = in_base64(NEW)
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", DATABASE)
    monkeypatch.setenv("PENSTOCK_SECRETS_KEY", key)
    settings = load_settings()
    assert settings.secrets_keys() == [NEW]
    assert key not in repr(settings)
    (shown,) = (each for each in shown_settings(settings) if each.name == "secrets_key")
    assert shown.value == "********"
    monkeypatch.setenv("PENSTOCK_SECRETS_KEY", "canary")
    with pytest.raises(SettingsError, match=r"PENSTOCK_SECRETS_KEY: .*base64") as raised:
        load_settings()
    assert "canary" not in str(raised.value)


def test_the_key_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", DATABASE)
    assert load_settings().secrets_keys() == []
    file = tmp_path / "key"
    monkeypatch.setenv("PENSTOCK_SECRETS_KEY_FILE", str(file))
    with pytest.raises(BadKey, match="PENSTOCK_SECRETS_KEY_FILE"):
        load_settings().secrets_keys()
    file.write_text(f"{in_base64(NEW)}\n{in_base64(OLD)}\n")
    assert load_settings().secrets_keys() == [NEW, OLD]
    monkeypatch.setenv("PENSTOCK_SECRETS_KEY", in_base64(NEW))
    with pytest.raises(BadKey, match="both"):
        load_settings().secrets_keys()
