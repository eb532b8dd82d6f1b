"""The configuration file of each part, files of secrets, and the page: every setting that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from scripts import settings_docs

import penstock.configuration_file
import penstock_agent.configuration_file
import penstock_coordinator.configuration_file
from penstock import settings as client
from penstock.errors import SettingsError as ClientSettingsError
from penstock_agent import settings as agent
from penstock_coordinator import settings as coordinator

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
PAGE = ROOT / "docs" / "configuration.md"
PARTS: list[ModuleType] = [
    penstock.configuration_file,
    penstock_agent.configuration_file,
    penstock_coordinator.configuration_file,
]
URL = "postgresql://u:SECRETPW@127.0.0.1/d"

NO_SETTINGS = {
    "PENSTOCK_CONFIG": "names the file that holds the settings",
    "PENSTOCK_DEBUG": "of the command line alone",
    "PENSTOCK_COMPLETE": "click's, for shells",
    "PENSTOCK_ITEM": "given to steps",
    "PENSTOCK_SECRETS_DIR": "given to steps",
    "PENSTOCK_OUTAGE_SECONDS": "of tests",
    "PENSTOCK_RANDOM_DAGS": "of tests",
    "PENSTOCK_RANDOM_DAGS_SEED": "of tests",
    "PENSTOCK_SHELL_SECONDS": "of tests",
}
BEGINNINGS = ("PENSTOCK_INPUT_", "PENSTOCK_PARAM_", "PENSTOCK_SECRET_")
"""Given to steps, and secrets of agents."""


def variables() -> set[str]:
    """Of all settings that there are."""
    return {
        *map(coordinator.variable, coordinator.Settings.model_fields),
        *(variable for name in agent.AgentSettings.model_fields for variable in agent.variables(name)),
        *(f"PENSTOCK_{name.upper()}" for name in client.ClientSettings.model_fields),
    }


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in {*variables(), "PENSTOCK_CONFIG"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


# --- the page


def test_the_page_is_that_of_the_code() -> None:
    page = PAGE.read_text()
    assert page == settings_docs.with_tables(page), "after a change of settings: make settings-docs"


def test_every_setting_in_the_docs_exists() -> None:
    known = variables() | NO_SETTINGS.keys()
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"PENSTOCK_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_])", page.read_text())
        if not name.startswith(BEGINNINGS)
    }
    unknown = {(page, name) for page, name in named if name not in known}
    assert not {each for each in unknown if not any(other.startswith(each[1] + "_") for other in known)}


def test_every_setting_that_exists_is_in_the_docs() -> None:
    rows = "\n".join(line for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    assert sorted(name for name in variables() if f"`{name}`" not in rows) == []


# --- the file


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.partition(".")[0])
def test_every_part_reads_its_section_alike(part: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text('[server]\na = 2\nb = false\nc = "x"\nd = ["p", "q"]\ne = {k = 1.5, l = "z"}\n[agent]\nz = 1\n')
    expected = {"a": "2", "b": "false", "c": "x", "d": "p,q", "e": "k=1.5,l=z"}
    assert part.read_section("server", "abcde", str(file)) == expected
    monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
    assert part.read_section("server", "abcde") == expected
    assert part.read_section("client", "abcde") == {}
    monkeypatch.delenv("PENSTOCK_CONFIG")
    assert part.read_section("server", "abcde") == {}, "without a file there is nothing"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.partition(".")[0])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nlaens = 2\n", "do you mean 'lanes'"),
        ("[sever]\nlanes = 2\n", "do you mean 'server'"),
        ("lanes = 2\n", "below [server], [agent], [client]"),
        ("server = 2\n", "write [server]"),
        ("[server]\nlanes = [[1]]\n", "[server] lanes: write a text"),
        ("[server\n", "it is no TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_remedy(
    part: ModuleType, text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text(text)
    with pytest.raises(part.BadFile) as caught:
        part.read_section("server", ["lanes", "listen"], str(file))
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.partition(".")[0])
def test_a_file_that_was_named_has_to_be_there(part: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(part.BadFile, match="PENSTOCK_CONFIG"):
        part.read_section("server", [], str(tmp_path / "none.toml"))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.partition(".")[0])
def test_the_users_own_file_need_not_be_within_reach(
    part: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has named it, and the home of who runs a service may be closed to it."""
    closed = PermissionError(13, "Permission denied")

    def refuse(*_given: object, **_named: object) -> None:
        raise closed

    monkeypatch.delenv("PENSTOCK_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "closed"))
    monkeypatch.setattr(Path, "open", refuse)
    assert part.read_section("server", []) == {}
    with pytest.raises(part.BadFile, match="Permission denied"):
        part.read_section("server", [], str(tmp_path / "named.toml"))


def test_what_a_release_before_had_in_a_clients_file_stops_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text('address = "127.0.0.1:7400"\napi_key = "x"\n')
    client, agent, coordinator = PARTS
    assert coordinator.read_section("server", [], str(file)) == {}
    assert agent.read_section("agent", [], str(file)) == {}
    with pytest.raises(client.BadFile, match="below"):
        client.read_section("client", ["address"], str(file))


# --- what counts


def test_a_coordinator_goes_by_flag_environment_file_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text(f'[server]\ndatabase_url = "{URL}"\nlanes = 2\nmax_live_runs = 7\nlease_ttl = "45s"\n')
    monkeypatch.setenv("PENSTOCK_LANES", "3")
    monkeypatch.setenv("PENSTOCK_MAX_LIVE_RUNS", "8")
    flags = {"lanes": "4"}
    settings = coordinator.load_settings(flags, str(file))
    assert (settings.lanes, settings.max_live_runs, settings.lease_ttl.total_seconds()) == (4, 8, 45.0)
    shown = {each.name: each for each in coordinator.shown_settings(settings, flags, str(file))}
    sources = {name: shown[name].source for name in ("lanes", "max_live_runs", "lease_ttl", "listen", "database_url")}
    assert list(sources.values()) == ["flag", "environment", "file", "default", "file"]
    assert "SECRETPW" not in repr(shown)


def test_an_agent_goes_by_flag_environment_file_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text('[agent]\naddress = "a,b"\nqueues = ["x"]\nslots = 2\nlabels = {zone = "1"}\nlog_level = "debug"\n')
    monkeypatch.setenv("PENSTOCK_ADDRESS", "c")
    monkeypatch.setenv("PENSTOCK_AGENT_SLOTS", "3")
    settings = agent.load_settings({"slots": 4}, str(file))
    assert (settings.slots, settings.address, settings.queues) == (4, "c:7400", ["x"])
    assert (settings.labels, settings.log_level, settings.log_lines) == ({"zone": "1"}, "debug", 10_000)
    sources = {each.name: each.source for each in agent.shown_settings(settings, {"slots": 4}, str(file))}
    assert [sources[name] for name in ("slots", "address", "queues", "log_lines")] == [
        "flag",
        "environment",
        "file",
        "default",
    ]


def test_a_wrong_value_in_the_file_is_named_with_file_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "penstock.toml"
    monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
    refused: list[str] = []
    for text, load in (
        (f'[server]\ndatabase_url = "{URL}"\nlanes = 99\n', coordinator.load_settings),
        (f'[server]\ndatabase_url = "{URL}"\nlease_ttl = "6s"\n', coordinator.load_settings),
        ('[server]\ndatabase_url = "SECRETPW"\n', coordinator.load_settings),
        ('[server]\ndatabase_url_file = "/no/such/file"\n', coordinator.load_settings),
        ("[agent]\nslots = 0\n", agent.load_settings),
        ('[client]\naddress = "a:b"\n', client.load_settings),
        ('[client]\napi_key_file = "/no/such/file"\n', client.load_settings),
    ):
        file.write_text(text)
        with pytest.raises((coordinator.SettingsError, agent.SettingsError, ClientSettingsError)) as caught:
            load()
        refused.append(str(caught.value))
    beginnings = [
        "[server] lanes='99': ",
        "[server] lease_ttl is shorter than three times PENSTOCK_HEARTBEAT_INTERVAL",
        "[server] database_url: ",
        "[server] database_url_file=/no/such/file cannot be read",
        "[agent] slots='0': ",
        "[client] address: ",
        "[client] api_key_file: /no/such/file cannot be read",
    ]
    assert [text.startswith(f"{file}: {begun}") for text, begun in zip(refused, beginnings, strict=True)] == [True] * 7
    assert not any(own in "".join(refused) for own in ("SECRETPW", "PENSTOCK_LANES", "PENSTOCK_AGENT_SLOTS"))


def test_a_wrong_value_that_wins_over_the_file_is_named_as_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text(f'[server]\ndatabase_url = "{URL}"\nlanes = 2\n[agent]\nslots = 2\n[client]\naddress = "a"\n')
    monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
    monkeypatch.setenv("PENSTOCK_LANES", "99")
    monkeypatch.setenv("PENSTOCK_AGENT_SLOTS", "0")
    with pytest.raises(coordinator.SettingsError, match=r"^PENSTOCK_LANES='99'"):
        coordinator.load_settings()
    with pytest.raises(agent.SettingsError, match=r"^slots='0': .*PENSTOCK_AGENT_SLOTS"):
        agent.load_settings()
    with pytest.raises(ClientSettingsError, match=r"^address: "):
        client.load_settings(address="a:b")


def test_every_value_of_an_agent_is_shown_as_it_may_be_written() -> None:
    settings = agent.load_settings({"queues": ["a", "b"], "labels": {"zone": "1"}, "resources": {"gpu": 0.5}})
    shown = {each.name: each.value for each in agent.shown_settings(settings) if each.value}
    assert agent.load_settings(shown) == settings


# --- secrets in files


def test_a_secret_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "url"
    secret.write_text(f"{URL}\n")
    monkeypatch.setenv("PENSTOCK_DATABASE_URL_FILE", str(secret))
    settings = coordinator.load_settings()
    assert settings.database_url.get_secret_value() == URL
    source = next(each.source for each in coordinator.shown_settings(settings) if each.name == "database_url")
    assert source == "secret file"
    key = tmp_path / "key"
    key.write_text("very-secret\n")
    monkeypatch.setenv("PENSTOCK_API_KEY_FILE", str(key))
    loaded = client.load_settings()
    assert loaded.api_key is not None
    assert loaded.api_key.get_secret_value() == "very-secret"
    assert "very-secret" not in repr(client.shown_settings())


def test_a_secret_in_two_places_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "url"
    for name, load, error in (
        ("PENSTOCK_DATABASE_URL", coordinator.load_settings, coordinator.SettingsError),
        ("PENSTOCK_API_KEY", client.load_settings, ClientSettingsError),
    ):
        monkeypatch.setenv(f"{name}_FILE", str(secret))
        secret.unlink(missing_ok=True)
        with pytest.raises(error, match="cannot be read"):
            load()
        secret.write_text("\n")
        with pytest.raises(error, match="is empty"):
            load()
        secret.write_text(URL)
        monkeypatch.setenv(name, URL)
        with pytest.raises(error, match="keep one of them") as caught:
            load()
        assert "SECRETPW" not in str(caught.value)
        monkeypatch.delenv(name)
