"""The settings as a coordinator gets them: read by a child, without what reads them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from penstock_coordinator.commands import plain
from penstock_coordinator.settings import Settings, load_settings
from penstock_coordinator.settings_reading import is_to_serve

URL = "postgresql://user:SECRETPW@127.0.0.1:5432/db"
SERVED = """
import json, sys
from penstock_coordinator.settings_reading import SettingsReading
given = SettingsReading(sys.argv[1:]).take()
from penstock_coordinator import incarnation
settings = given.settings
print(json.dumps([
    settings.lanes, settings.lease_ttl.total_seconds(), settings.output_cache_size,
    settings.database_url.get_secret_value(), incarnation.cipher(settings) is None, given.migrates, list(given.former),
    [name for name in sys.modules if name.partition("_")[0] == "pydantic"],
]))
"""


def served(*arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return subprocess.run(
        [sys.executable, "-c", SERVED, *arguments],
        env={**environment, "PENSTOCK_DATABASE_URL": URL, **given},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_coordinator_has_its_settings_and_not_what_read_them() -> None:
    arguments = ["server", "--lease-ttl", "45s", "--no-migrate", "--take-over-from", "old"]
    done = served(*arguments, PENSTOCK_LANES="3", PENSTOCK_OUTPUT_CACHE_SIZE="32MiB")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [3, 45.0, 32 << 20, URL, True, False, ["old"], []]


def test_what_cannot_be_served_is_told_by_whoever_read_it() -> None:
    done = served("--lanes", "99")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: PENSTOCK_LANES='99': ")
    assert "SECRETPW" not in done.stderr


def test_every_setting_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", URL)
    monkeypatch.setenv("PENSTOCK_FAIRNESS_WEIGHTS", "data=3,web=1")
    settings = load_settings()
    packed = pickle.dumps(plain(settings))
    assert b"pydantic" not in packed
    told = pickle.loads(packed)  # just made
    assert told.pop("database_url").get_secret_value() == URL
    assert told == {name: getattr(settings, name) for name in Settings.model_fields if name != "database_url"}


@pytest.mark.parametrize(
    ("arguments", "serves"),
    [
        ([], True),
        (["server"], True),
        (["--lanes", "2"], True),
        (["--help"], False),
        (["-h"], False),
        (["migrate"], False),
        (["config", "--json"], False),
    ],
)
def test_a_coordinator_is_served_by_default(arguments: list[str], serves: bool) -> None:
    assert is_to_serve(arguments) is serves


@pytest.mark.parametrize(("flags", "said"), [((), "as its parent"), (("-P",), "No module named")])
def test_an_upgrade_finds_the_modules_where_its_parent_does(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    (tmp_path / "told.py").write_text("raise SystemExit('as its parent')")
    program = (
        "import asyncio\n"
        "from penstock_coordinator.adapters.postgres import schema\n"
        "schema._UPGRADE = 'told'\n"
        "asyncio.run(schema._upgrade('x'))"
    )
    done = subprocess.run(
        [sys.executable, *flags, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "CannotMigrate" in done.stderr
    assert said in done.stderr
