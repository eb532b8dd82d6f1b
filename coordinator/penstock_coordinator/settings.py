"""Every setting of the coordinator, with its bounds and its default.

A setting is given by a flag (`--lease-ttl 30s`), in the environment (`PENSTOCK_LEASE_TTL=30s`) or below `[server]` of
the configuration file (`lease_ttl = "30s"`); the first of these wins. Spans are written with their unit ("500ms",
"30s", "5m", "1h", "7d"), sizes likewise ("256KiB", "64MiB"). Secrets have no flag, as flags can be seen by every user
of the machine; PENSTOCK_<NAME>_FILE names a file that holds one.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import platformdirs
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from penstock_coordinator.artifact_settings import ArtifactSettings
from penstock_coordinator.configuration_file import BadFile, place, read_section
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS
from penstock_coordinator.core.run.spans import microseconds, spelled
from penstock_coordinator.limit_settings import LimitSettings
from penstock_coordinator.log_masking import masked
from penstock_coordinator.log_settings import LogSettings
from penstock_coordinator.ownership_settings import OwnershipSettings
from penstock_coordinator.price_settings import PriceSettings
from penstock_coordinator.redis_settings import RedisSettings
from penstock_coordinator.retention_settings import RetentionSettings
from penstock_coordinator.secret_settings import SecretSettings
from penstock_coordinator.setting_kinds import GIB as _GIB
from penstock_coordinator.setting_kinds import KIB as _KIB
from penstock_coordinator.setting_kinds import MIB as _MIB
from penstock_coordinator.setting_kinds import Span, unless_empty
from penstock_coordinator.setting_kinds import size_of as _bytes
from penstock_coordinator.setting_kinds import span as span_of

PREFIX = "PENSTOCK_"
SECTION = "server"
READ_FROM_FILES = ("database_url", "redis_url")
"""Secrets that may be in a file of their own, which the setting of their name and `_file` names."""
_MASK = "********"
_VARIABLE = re.compile(PREFIX + r"([A-Z0-9_]*[A-Z0-9])")
_HOST = r"(?:\[[^\[\]]*\]|[^\[\]:,@]*)(?::[0-9]*)?"
_PLACES = re.compile(rf"(?:[^@]*@)?{_HOST}(?:,{_HOST})*")
"""Of a database: user and password, and its hosts with their ports."""
_SHORTEST_OF_BUNDLES = timedelta(hours=2)


class SettingsError(Exception):
    """A setting is missing or not allowed. The text names it and the remedy; it holds no secret."""


def read_span(given: str) -> timedelta:
    """Of a flag that is no setting. Raises `SettingsError`."""
    try:
        found = span_of(given)
    except ValueError as error:
        raise SettingsError(f"{given!r} {error}") from None
    assert isinstance(found, timedelta)
    return found


def _address(given: str) -> str:
    host, colon, port = given.strip().rpartition(":")
    if not colon or not host or "/" in given or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("is no host:port: write for example 127.0.0.1:7400, or port 0 for any that is free")
    return f"{'127.0.0.1' if host == 'localhost' else host}:{int(port)}"


def _database(given: SecretStr) -> SecretStr:
    url = given.get_secret_value()
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("is no PostgreSQL URL: write postgresql://user:password@host:5432/database")
    # What is read as the host of a password that is not escaped is told by whoever does not find it.
    place = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if url.count("@") > place.count("@") or not _PLACES.fullmatch(place):
        raise ValueError(
            "cannot be taken apart: in user and password write @ as %40, / as %2F, : as %3A, ? as %3F and # as %23, and"
            " behind a host's colon its port"
        )
    return given


def _label(given: str) -> str:
    if "=" in given or len(given.encode()) > DEFAULT_LIMITS.label_bytes:
        raise ValueError("is no key of a label: write for example team")
    return given


def _weights(given: object) -> object:
    if not isinstance(given, str):
        return given
    weights: dict[str, float] = {}
    for part in given.split(",") if given.strip() else []:
        value, equals, number = part.strip().rpartition("=")
        try:
            weight = float(number) if equals and value else 0.0
        except ValueError:
            weight = 0.0
        if not DEFAULT_LIMITS.least_weight <= weight <= DEFAULT_LIMITS.most_weight:
            bounds = f"from {DEFAULT_LIMITS.least_weight:g} to {DEFAULT_LIMITS.most_weight:g}"
            raise ValueError(f"{part.strip()!r} is no value with a weight {bounds}: write for example data=3,web=1")
        if value in weights:
            raise ValueError(f"{value!r} has two weights: keep one")
        weights[value] = weight
    return weights


Address = Annotated[str, AfterValidator(_address)]


Weights = Annotated[dict[str, float], NoDecode, BeforeValidator(_weights)]


class Settings(
    RetentionSettings,
    LimitSettings,
    OwnershipSettings,
    RedisSettings,
    ArtifactSettings,
    SecretSettings,
    PriceSettings,
    LogSettings,
    BaseSettings,
):
    """The coordinator's settings. Each field is the environment variable PENSTOCK_<FIELD> and the flag --<field>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    database_url: Annotated[SecretStr, AfterValidator(_database)] = Field(
        description="the PostgreSQL database: postgresql://user:password@host:5432/database"
    )
    database_url_file: Annotated[Path | None, BeforeValidator(unless_empty)] = Field(
        default=None, description="a file that holds that URL; in place of the variable"
    )
    database_connections: int = Field(
        default=8, ge=2, le=200, description="connections for everything but commits (each lane has one more); 2 to 200"
    )
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("penstock", appauthor=False) / "coordinator",
        description="the folder that keeps this coordinator's identity between starts",
        json_schema_extra={"default": "`penstock/coordinator` in the user's data folder"},
    )
    listen: Address = Field(
        default="127.0.0.1:7400",
        description="host:port of gRPC; anyone who reaches it may do anything: keep it private",
    )
    http_listen: Address = Field(
        default="127.0.0.1:7480", description="host:port of HTTP: /healthz, /readyz, and the artifacts of a local store"
    )
    reflection: bool = Field(default=True, description="whether gRPC tells its services and messages to those who ask")

    lanes: int = Field(
        default=1, ge=1, le=8, description="commits to the journal that may be under way at once; 1 to 8"
    )
    max_live_runs: int = Field(
        default=100_000, ge=1, le=10_000_000, description="runs not at rest; past it a start is RESOURCE_EXHAUSTED"
    )
    max_backlog: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="runs that wait to begin; the last tenth is for priorities above 0, those below 0 get half",
    )
    max_loop_lag: Span = Field(
        default=timedelta(milliseconds=500),
        ge=timedelta(milliseconds=50),
        le=timedelta(minutes=1),
        description="of the coordinator behind what is due; past it new work is refused",
    )
    ready_loop_lag: Span = Field(
        default=timedelta(seconds=2),
        ge=timedelta(milliseconds=100),
        le=timedelta(minutes=10),
        description="of the coordinator behind what is due; past it for 5s it says that it is not ready",
    )
    max_commit_lag: Span = Field(
        default=timedelta(seconds=2),
        ge=timedelta(milliseconds=100),
        le=timedelta(minutes=5),
        description="of one commit; past it new work is refused",
    )
    max_memory: ByteSize = Field(
        default=_bytes(0, 1),
        ge=0,
        le=64 * 1024 * _GIB,
        description="of the coordinator; near it new work is refused; 0: three quarters of what there is",
    )
    commit_patience: Span = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=100),
        le=timedelta(minutes=10),
        description="how long a caller waits for the database to confirm before it hears UNAVAILABLE",
    )
    max_output_size: ByteSize = Field(
        default=_bytes(256, _KIB), ge=_KIB, le=_MIB // 2, description="of one step's output; 1KiB to 512KiB"
    )
    inline_output_size: ByteSize = Field(
        default=_bytes(32, _KIB),
        ge=_KIB,
        le=_bytes(256, _KIB),
        description="of a step's output that stays in the run; a larger one goes to the artifact store; 1KiB to 256KiB",
    )
    output_cache_size: ByteSize = Field(
        default=_bytes(256, _MIB),
        ge=_MIB,
        le=64 * _GIB,
        description="memory for outputs that later steps read; from 1MiB",
    )

    priority_aging: Span = Field(
        default=timedelta(minutes=1),
        ge=timedelta(milliseconds=100),
        le=timedelta(days=30),
        description="waiting for so long raises a priority by one; 100ms to 30d",
    )
    fairness_label: Annotated[str, AfterValidator(_label)] = Field(
        default="",
        description="the run label (for example team) between whose values agents are shared out; empty: none",
    )
    fairness_weights: Weights = Field(
        default_factory=dict,
        description="shares of values of that label: data=3,web=1; from 0.01 to 100, and 1 for all others",
    )

    heartbeat_interval: Span = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=50),
        le=timedelta(minutes=5),
        description="how often an agent says that it lives; 50ms to 5m",
    )
    keepalive_interval: Span = Field(
        default=timedelta(seconds=10),
        ge=timedelta(milliseconds=100),
        le=timedelta(minutes=5),
        description="between two pings of a connection; who pings more than twice as often is cut off; 100ms to 5m",
    )
    lease_ttl: Span = Field(
        default=timedelta(seconds=30),
        ge=timedelta(milliseconds=200),
        le=timedelta(hours=1),
        description="how long a step stays with an agent that is not heard of; 200ms to 1h, at least 3 heartbeats",
    )
    expiry_margin: Span = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=10),
        le=timedelta(minutes=5),
        description="how much later than the agent itself the coordinator gives a lease up; 10ms to 5m",
    )
    accept_timeout: Span = Field(
        default=timedelta(seconds=10),
        ge=timedelta(milliseconds=50),
        le=timedelta(minutes=5),
        description="within which an agent accepts what it is given, or it is called back; 50ms to 5m",
    )
    result_resend_interval: Span = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=50),
        le=timedelta(minutes=5),
        description="how often an agent repeats a result that is not acknowledged; 50ms to 5m",
    )
    stop_grace: Span = Field(
        default=timedelta(seconds=10),
        ge=timedelta(0),
        le=timedelta(hours=1),
        description="between SIGTERM and SIGKILL of a stopped attempt whose pipeline says nothing; 0s to 1h",
    )

    max_bundle_size: ByteSize = Field(
        default=_bytes(64, _MIB), ge=_KIB, le=256 * _MIB, description="of a packed code bundle; 1KiB to 256MiB"
    )
    max_bundle_unpacked_size: ByteSize = Field(
        default=_bytes(256, _MIB), ge=_KIB, le=4 * _GIB, description="of all files of a code bundle; 1KiB to 4GiB"
    )
    max_bundle_files: int = Field(default=20_000, ge=1, le=1_000_000, description="files in a code bundle")
    log_buffer_size: ByteSize = Field(
        default=_bytes(16, _MIB),
        ge=_MIB,
        le=_GIB,
        description="steps' log lines in memory on their way to the database",
    )
    log_pack_after: Span = Field(
        default=timedelta(seconds=60),
        ge=timedelta(0),
        le=timedelta(days=1),
        description="age at which steps' log lines go to the artifact store, if they are not enough for it sooner; 0s"
        " to 1d",
    )
    log_backlog_size: ByteSize = Field(
        default=_bytes(4, _GIB),
        ge=_MIB,
        le=1024 * _GIB,
        description="steps' log lines that wait in the database while the artifact store is away; past it agents are"
        " held up",
    )
    max_attempt_log_size: ByteSize = Field(
        default=_bytes(64, _MIB), ge=_KIB, le=_GIB, description="log of one attempt; what comes after is dropped"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.lease_ttl < 3 * self.heartbeat_interval:
            raise ValueError(
                "PENSTOCK_LEASE_TTL is shorter than three times PENSTOCK_HEARTBEAT_INTERVAL, so that one late"
                " heartbeat loses every lease: lengthen the first or shorten the second"
            )
        if self.max_spec_size + _MIB > self.max_message_size:
            raise ValueError(
                "PENSTOCK_MAX_SPEC_SIZE does not fit into PENSTOCK_MAX_MESSAGE_SIZE with 1MiB to spare: lower the first"
                " or raise the second"
            )
        if self.max_inputs_size + _MIB > self.max_message_size:
            raise ValueError(
                "PENSTOCK_MAX_INPUTS_SIZE does not fit into PENSTOCK_MAX_MESSAGE_SIZE with 1MiB to spare: lower the"
                " first or raise the second"
            )
        if timedelta(0) < self.run_retention < self.request_retention:
            raise ValueError(
                "PENSTOCK_RUN_RETENTION is shorter than PENSTOCK_REQUEST_RETENTION, for which a repeated start is"
                " answered with its run: lengthen the first or shorten the second"
            )
        if timedelta(0) < self.unused_bundle_retention < _SHORTEST_OF_BUNDLES:
            raise ValueError(
                "PENSTOCK_UNUSED_BUNDLE_RETENTION is shorter than 2h, so that a bundle may go between its upload and"
                " the version that names it: lengthen it, or write 0s to keep all bundles"
            )
        if self.expiry_margin * 100 < self.lease_ttl:
            raise ValueError(
                "PENSTOCK_EXPIRY_MARGIN is less than a hundredth of PENSTOCK_LEASE_TTL, which two clocks may drift"
                " apart: lengthen it"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings


def load_settings(flags: Mapping[str, Any] | None = None, file: str | None = None) -> Settings:
    """Flags by field, then the environment, then the configuration file (`file`, or that in force), then defaults.
    Raises `SettingsError` that names every wrong setting."""
    given = dict(flags or {})
    environment = _environment()
    found = {name: value for name, value in _of_file(file).items() if name not in environment}
    places = {name: place(SECTION, name, file) for name in found if name not in given}
    secrets = _from_files({**found, **environment, **given}, places)
    try:
        return Settings(**{**found, **secrets, **given})
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise SettingsError("\n".join(_problem(problem, places) for problem in problems)) from None


def _from_files(given: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, str]:
    """The secrets whose files are given."""
    secrets: dict[str, str] = {}
    for name in READ_FROM_FILES:
        if not (path := given.get(f"{name}_file")):
            continue
        named = places.get(f"{name}_file", f"{variable(name)}_FILE")
        if name in given:
            raise SettingsError(f"{places.get(name, variable(name))} and {named} are both set: keep one of them")
        secrets[name] = _secret_in(named, Path(str(path)))
    return secrets


def _of_file(file: str | None) -> dict[str, str]:
    try:
        return read_section(SECTION, Settings.model_fields, file)
    except BadFile as error:
        raise SettingsError(str(error)) from None


def _secret_in(setting: str, path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"{setting}={path} cannot be read: {why}") from None
    if not text:
        raise SettingsError(f"{setting}={path} is empty: write what the variable would hold, or unset it")
    return text


def _environment() -> dict[str, str]:
    """The settings that it gives, by name."""
    given = {key.upper(): value for key, value in os.environ.items()}
    return {name: given[variable(name)] for name in Settings.model_fields if given.get(variable(name))}


def _problem(problem: ErrorDetails, places: Mapping[str, str]) -> str:
    """Of what is set, where it is: `places` are those in the configuration file, all others are the environment's."""
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return _VARIABLE.sub(lambda found: places.get(found[1].lower(), found[0]), message)
    name = str(problem["loc"][0])
    field = Settings.model_fields.get(name)
    if field is None:
        return f"{name}: there is no such setting"
    meaning = field.description or ""
    if problem["type"] == "missing":
        return (
            f"{variable(name)} is not set: it is {meaning} (also {name} below [{SECTION}] of the configuration file;"
            f" {variable(name)}_FILE may name a file that holds it)"
        )
    given = "" if is_secret(name) else f"={masked(str(problem['input']))[:100]!r}"
    return f"{places.get(name, variable(name))}{given}: {message[:1].lower()}{message[1:]} ({meaning})"


def variable(name: str) -> str:
    """The environment variable of the setting."""
    return PREFIX + name.upper()


# --- flags ------------------------------------------------------------------------------------------------------------


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting that is no secret, and --config. What is not given stays out of the namespace."""
    parser.add_argument(
        "--config",
        dest="config_file",
        default=None,
        metavar="FILE",
        help="the configuration file, TOML with a section [server] [PENSTOCK_CONFIG]",
    )
    for name, field in Settings.model_fields.items():
        if is_secret(name):
            continue
        flag, help_text = "--" + name.replace("_", "-"), f"{field.description} [{variable(name)}]".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(
                flag, dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=help_text
            )
        else:
            parser.add_argument(flag, dest=name, default=argparse.SUPPRESS, metavar="VALUE", help=help_text)


def flags_of(namespace: argparse.Namespace) -> dict[str, Any]:
    """The settings among what was parsed."""
    return {name: value for name, value in vars(namespace).items() if name in Settings.model_fields}


# --- showing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting as it is in force. `source` is "flag", "environment", "file", "secret file" or "default"."""

    name: str
    variable: str
    value: str
    source: str
    description: str


def shown_settings(
    settings: Settings, flags: Mapping[str, Any] | None = None, file: str | None = None
) -> list[ShownSetting]:
    """Every setting in the order of its definition, secrets masked. Flags and file as they were loaded with."""
    sources = {
        **dict.fromkeys((name for name in READ_FROM_FILES if getattr(settings, f"{name}_file")), "secret file"),
        **dict.fromkeys(_of_file(file), "file"),
        **dict.fromkeys(_environment(), "environment"),
        **dict.fromkeys(flags or {}, "flag"),
    }
    return [
        ShownSetting(
            name, variable(name), shown(getattr(settings, name)), sources.get(name, "default"), field.description or ""
        )
        for name, field in Settings.model_fields.items()
    ]


def shown(value: object) -> str:
    """As it may be written in the environment; secrets masked, also passwords in addresses."""
    match value:
        case SecretStr():
            return _MASK
        case None:
            return ""
        case timedelta():
            return spelled(microseconds(value)).replace(" ", "").replace("min", "m") if value else "0s"
        case ByteSize():
            return _size(value)
        case dict():
            return ",".join(f"{name}={shown(each)}" for name, each in value.items())
        case float():
            return f"{value:g}"
        case bool():
            return str(value).lower()
        case _:
            return masked(str(value))


def _size(size: int) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"


def is_secret(name: str) -> bool:
    """Whether the setting itself is a secret: it is shown nowhere, and has no flag."""
    annotation = Settings.model_fields[name].annotation
    return annotation is SecretStr or SecretStr in _parts(annotation)


def _parts(annotation: object) -> set[object]:
    """Of "this or nothing", with what is annotated laid open."""
    return {get_args(part)[0] if get_origin(part) is Annotated else part for part in get_args(annotation)}
