"""The coordinator's settings: sources, bounds, and errors that name the setting and the remedy."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest

from penstock_coordinator.api.metrics.disks import Disks
from penstock_coordinator.configured import folders, limits_of, run_limits_of, timing
from penstock_coordinator.core.plan.limits import (
    DEFAULT_LIMITS,
    DEFAULT_RUN_LIMITS,
    LOWERABLE,
    RAISABLE,
    RUN_SETTINGS,
    RunLimits,
    setting_of,
)
from penstock_coordinator.core.run.spans import microseconds
from penstock_coordinator.identity import CannotStart
from penstock_coordinator.opening import update_schema
from penstock_coordinator.settings import (
    Settings,
    SettingsError,
    add_flags,
    flags_of,
    load_settings,
    shown_settings,
    variable,
)

URL = "postgresql://user:SECRETPW@127.0.0.1:5432/db"

MEMORY = 1 << 34


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", URL)


def parsed(*arguments: str) -> dict[str, object]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    return flags_of(parser.parse_args(arguments))


def test_the_defaults_are_those_of_one_machine() -> None:
    settings = load_settings()
    assert settings.listen == "127.0.0.1:7400"
    assert settings.http_listen == "127.0.0.1:7480"
    assert settings.lease_ttl == timedelta(seconds=30)
    assert settings.reflection


def test_a_flag_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_LANES", "2")
    monkeypatch.setenv("PENSTOCK_MAX_LIVE_RUNS", "7")
    flags = parsed("--lanes", "3", "--no-reflection")
    settings = load_settings(flags)
    assert (settings.lanes, settings.max_live_runs, settings.reflection) == (3, 7, False)
    sources = {shown.name: (shown.value, shown.source) for shown in shown_settings(settings, flags)}
    assert sources["lanes"] == ("3", "flag")
    assert sources["max_live_runs"] == ("7", "environment")
    assert sources["reflection"] == ("false", "flag")
    assert sources["http_listen"] == ("127.0.0.1:7480", "default")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_LANES", "")
    settings = load_settings()
    assert settings.lanes == 1
    assert next(shown.source for shown in shown_settings(settings) if shown.name == "lanes") == "default"


def test_secrets_are_never_shown() -> None:
    settings = load_settings()
    assert "SECRETPW" not in repr(shown_settings(settings)) + repr(settings) + str(settings)
    assert settings.database_url.get_secret_value() == URL
    with pytest.raises(SystemExit):
        parsed("--database-url", URL)


@pytest.mark.parametrize(
    ("text", "span"),
    [("250ms", 250_000), ("30s", 30_000_000), ("1.5s", 1_500_000), ("5m", 300_000_000), ("1min", 60_000_000)],
)
def test_spans_have_units(text: str, span: int) -> None:
    settings = load_settings({"heartbeat_interval": text, "lease_ttl": "1h", "expiry_margin": "1m"})
    assert microseconds(settings.heartbeat_interval) == span


def test_every_value_is_shown_as_it_may_be_written() -> None:
    settings = load_settings()
    shown = {each.name: each.value for each in shown_settings(settings) if each.name != "database_url"}
    assert load_settings(shown) == settings
    assert (shown["lease_ttl"], shown["max_bundle_size"], shown["max_output_size"]) == ("30s", "64MiB", "256KiB")
    assert all(each.description for each in shown_settings(settings))


def test_weights_are_written_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_FAIRNESS_WEIGHTS", "data=3, web=0.5,a=b=2")
    settings = load_settings()
    assert settings.fairness_weights == {"data": 3.0, "web": 0.5, "a=b": 2.0}
    shown = next(each.value for each in shown_settings(settings) if each.name == "fairness_weights")
    assert load_settings({"fairness_weights": shown}) == settings


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("lanes", "9", "less than or equal to 8"),
        ("lanes", "many", "valid integer"),
        ("lease_ttl", "30", "for example 30s"),
        ("lease_ttl", "-1s", "for example 30s"),
        ("lease_ttl", "2h", "200ms to 1h"),
        ("lease_ttl", "9" * 400 + "d", "too long"),
        ("listen", "7400", "host:port"),
        ("listen", "host:99999", "host:port"),
        ("http_listen", ":80", "host:port"),
        ("max_bundle_size", "lots", "1KiB to 256MiB"),
        ("max_bundle_size", "1TiB", "1KiB to 256MiB"),
        ("log_level", "loud", "write debug, info, warning or error"),
        ("log_level", "info,debug", "two levels"),
        ("log_format", "xml", "'auto', 'json' or 'console'"),
        ("reflection", "maybe", "valid boolean"),
        ("database_url", "mysql://user:SECRETPW@h/d", "postgresql://"),
        ("database_url", "postgresql://user:SECRETPW@SECRETPW@h/d", "write @ as %40, / as %2F"),
        ("database_url", "postgresql://user:SECRETPW/SECRETPW@h/d", "write @ as %40, / as %2F"),
        ("database_url", "postgresql://user:1/SECRETPW@h/d", "write @ as %40, / as %2F"),
        ("database_url", "postgresql://user:1?SECRETPW@h/d", "write @ as %40, / as %2F"),
        ("expiry_margin", "20ms", "PENSTOCK_LEASE_TTL"),
        ("heartbeat_interval", "20s", "three times"),
        ("max_steps", "0", "1 to 500,000"),
        ("max_steps", "500001", "1 to 500,000"),
        ("max_nesting", "29", "1 to 28"),
        ("max_message_size", "65MiB", "1MiB to 64MiB"),
        ("max_message_size", "32MiB", "PENSTOCK_MAX_SPEC_SIZE"),
        ("max_name_length", "129", "1 to 128"),
        ("max_items_of_step", "500001", "1 to 500,000"),
        ("max_inputs_size", "33MiB", "1KiB to 32MiB"),
        ("max_run_output_size", "5MiB", "1KiB to 4MiB"),
        ("max_sub_pipeline_depth", "0", "1 to 64"),
        ("priority_aging", "0s", "100ms to 30d"),
        ("fairness_label", "a=b", "for example team"),
        ("fairness_weights", "data", "data=3,web=1"),
        ("fairness_weights", "data=many", "data=3,web=1"),
        ("fairness_weights", "data=0", "from 0.01 to 100"),
        ("fairness_weights", "data=nan", "from 0.01 to 100"),
        ("fairness_weights", "data=1,data=2", "two weights"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str
) -> None:
    monkeypatch.setenv(variable(name), value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert variable(name) in message
    assert remedy in message
    assert "SECRETPW" not in message
    assert len(message) < 1_000


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///db?host=/run/postgresql",
        "postgres://user@h",
        "postgresql://us%40er:p%2Fw@[::1]:5432,h2,h3:1/db",
        "postgresql://user:p:w@%2Frun%2Fpostgresql/db",
    ],
)
def test_addresses_of_databases_have_many_forms(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", url)
    assert load_settings().database_url.get_secret_value() == url


async def test_what_is_not_read_of_the_address_of_a_database_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", "postgresql://user:pw@h/d?SECRETPW")
    with pytest.raises(CannotStart) as caught:
        await update_schema(load_settings())
    assert "cannot be read" in str(caught.value)
    assert "SECRETPW" not in str(caught.value)


def test_two_folders_on_one_disk_are_told_of_once(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": str(tmp_path)})
    assert folders(settings) == {"data": tmp_path, "artifacts": tmp_path / "artifacts"}
    (tmp_path / "artifacts").mkdir()
    assert folders(settings) == {"artifacts": tmp_path / "artifacts"}


async def test_two_scrapes_at_once_are_both_told_of_the_disk(tmp_path: Path) -> None:
    disks = Disks({"data": tmp_path})
    assert [list(found) for found in await asyncio.gather(disks.look(), disks.look())] == [["data"], ["data"]]


def test_the_inputs_of_an_attempt_fit_into_a_message() -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_MAX_INPUTS_SIZE does not fit into PENSTOCK_MAX_MESSAGE_SIZE"):
        load_settings({"max_spec_size": "1MiB", "max_message_size": "3MiB"})
    load_settings({"max_spec_size": "1MiB", "max_inputs_size": "2MiB", "max_message_size": "3MiB"})


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_DATABASE_URL")
    monkeypatch.setenv("PENSTOCK_LANES", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings({"listen": "x", "no_such": "1"})
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0].partition("=")[0].partition(" ")[0] for line in lines] == [
        "PENSTOCK_DATABASE_URL",
        "PENSTOCK_LISTEN",
        "PENSTOCK_LANES",
        "no_such",
    ]
    assert "is not set" in lines[0]


def test_the_limits_of_the_settings_are_those_of_the_core() -> None:
    assert limits_of(load_settings()) == DEFAULT_LIMITS
    assert limits_of(load_settings({"max_steps": "7", "max_spec_size": "1MiB"})) == replace(
        DEFAULT_LIMITS, steps=7, spec_bytes=1 << 20
    )
    found = timing(load_settings(), MEMORY)
    assert (found.max_watchers, found.max_watchers_of_run) == (5_000, 1_000)


def test_the_limits_of_runs_are_those_of_the_core() -> None:
    assert run_limits_of(load_settings()) == DEFAULT_RUN_LIMITS
    assert set(RUN_SETTINGS) == {field.name for field in fields(RunLimits)}
    given = {"max_items_of_step": "7", "max_inputs_size": "2KiB", "max_run_output_size": "3KiB"}
    expected = RunLimits(items=7, inputs_bytes=2 << 10, output_bytes=3 << 10, sub_pipeline_depth=5)
    assert timing(load_settings({**given, "max_sub_pipeline_depth": "5"}), MEMORY).run_limits == expected


@pytest.mark.parametrize("limit", [*RAISABLE, *LOWERABLE])
def test_a_limit_can_be_raised_or_only_lowered_as_the_core_says(limit: str) -> None:
    (most,) = (each.le for each in Settings.model_fields[setting_of(limit)].metadata if hasattr(each, "le"))
    default = getattr(DEFAULT_LIMITS, limit)
    assert most > default if limit in RAISABLE else most == default
