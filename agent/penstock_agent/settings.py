"""The agent's settings: command line, then environment, then `[agent]` of the configuration file, then default."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from penstock_agent.configuration_file import BadFile, place, read_section
from penstock_agent.environment_settings import EnvironmentSettings
from penstock_agent.log_levels import spelled
from penstock_agent.log_masking import masked
from penstock_agent.resources.gpus import named
from penstock_agent.resources.machine import whole_cores

DEFAULT_PORT = 7400
PREFIX = "PENSTOCK_AGENT_"
SECTION = "agent"
OTHER_VARIABLES = {
    "address": ("PENSTOCK_ADDRESS",),
    "container_engine": ("PENSTOCK_AGENT_CONTAINER_ENGINE", "PENSTOCK_CONTAINER_ENGINE"),
}
"""Of settings that are not PENSTOCK_AGENT_<NAME> alone; the first that is set counts."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class SettingsError(Exception):
    """The text names the settings that are not allowed, and the remedy."""


class AgentSettings(EnvironmentSettings):
    """As they are given; `load_settings` finds them. Lists are separated by commas."""

    model_config = SettingsConfigDict(extra="forbid")

    address: str = Field(
        default="127.0.0.1:7400",
        description="host:port of a coordinator, or of several: host:port,host:port",
    )
    id: str = Field(default="", description="name of this agent; kept in the data folder when not given")
    slots: int = Field(
        default_factory=whole_cores,
        ge=1,
        le=1024,
        description="attempts that run at once",
        json_schema_extra={"default": "the number of cores"},
    )
    queues: Annotated[list[str], NoDecode] = Field(default=["default"], description="queues that are served")
    labels: Annotated[dict[str, str], NoDecode] = Field(default={}, description="labels that steps can ask for")
    resources: Annotated[dict[str, float], NoDecode] = Field(
        default={}, description="in place of what is found, and more"
    )
    gpus: str | None = Field(
        default=None, description="devices that steps may be given, as CUDA_VISIBLE_DEVICES names them; unset: all"
    )
    memory_interval: float = Field(
        default=0.25, ge=0.01, le=60, description="seconds between two looks at the memory of attempts with a limit"
    )
    memory_group: str = Field(
        default="auto",
        description="the control group below which attempts get one each for their memory: auto, none or its path",
    )
    container_engine: str = Field(
        default="auto",
        pattern="^(auto|docker|podman|none)$",
        description="what runs steps that name a container image: auto, docker, podman or none",
    )
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_state_path("penstock") / "agent",
        description="folder for results that are not acknowledged, bundles and work; of one agent alone",
        json_schema_extra={"default": "`penstock/agent` in the user's state folder"},
    )
    secrets_dir: Path | None = Field(
        default=None,
        description="folder with a file for each secret that this agent has of its own; also PENSTOCK_SECRET_<NAME>",
    )
    drain_timeout: float = Field(default=300.0, ge=0, description="seconds that running steps have after SIGTERM")
    idle_workers: int | None = Field(default=None, ge=0, description="idle step processes that are kept; unset: slots")
    disk_floor_bytes: int = Field(default=256 * 2**20, ge=0, description="with less free disk no work is taken")
    bundle_cache_bytes: int = Field(default=2 * 2**30, ge=0, description="bytes of unpacked bundles that are kept")
    bundle_cache_count: int = Field(default=1_000, ge=0, description="unpacked bundles that are kept")
    max_bundle_size: int = Field(default=256 * 2**20, ge=1, description="bytes of a packed bundle that is fetched")
    max_bundle_unpacked_size: int = Field(default=512 * 2**20, ge=1, description="bytes of all files of a bundle")
    max_bundle_files: int = Field(default=50_000, ge=1, description="files and folders of a bundle")
    artifact_cache_bytes: int = Field(
        default=10 * 2**30, ge=0, description="bytes of fetched artifacts that are kept for later attempts"
    )
    artifact_cache_count: int = Field(default=100_000, ge=0, description="fetched artifacts that are kept")
    artifact_patience: float = Field(
        default=120.0, ge=1, description="seconds without progress after which an artifact is given up"
    )
    keepalive_interval: float = Field(
        default=10.0,
        ge=0.1,
        le=300,
        description="seconds between two pings of the connection; not below the half of what"
        " the coordinator expects (5)",
    )
    log_lines: int = Field(default=10_000, ge=0, description="lines of output that are kept of an attempt")
    log_bytes: int = Field(default=4 * 2**20, ge=0, description="bytes of output that are kept of an attempt")
    http_listen: str = Field(
        default="",
        description="host:port of /metrics, /healthz and /readyz; keep it from others; empty: there are none",
    )
    log_format: str = Field(default="auto", pattern="^(auto|json|console)$", description="of the agent's own log")
    log_level: Annotated[str, AfterValidator(spelled)] = Field(
        default="info",
        description="of the agent's own log: debug, info, warning or error, and others for single loggers:"
        " info,penstock_agent.runtime=debug",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("address")
    @classmethod
    def _complete_addresses(cls, given: str) -> str:
        addresses = [_complete(each.strip()) for each in given.split(",") if each.strip()]
        if not addresses:
            raise ValueError("use host:port, or host:port,host:port")
        return ",".join(dict.fromkeys(addresses))

    @field_validator("http_listen")
    @classmethod
    def _check_http_listen(cls, given: str) -> str:
        host, _, port = given.rpartition(":")
        if given and not (host and port.isdigit() and int(port) < 1 << 16):
            raise ValueError("use host:port, as 127.0.0.1:7490, or leave it empty")
        return given

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value):
            raise ValueError("use 1 to 128 letters, digits, '_', '.' and '-', beginning with a letter, a digit or '_'")
        return value

    @field_validator("gpus", mode="before")
    @classmethod
    def _keep_none(cls, value: Any) -> Any:
        return "-1" if value == "none" else value

    @property
    def devices(self) -> tuple[str, ...] | None:
        """None: those that are found."""
        return None if self.gpus is None else named(self.gpus)

    @field_validator("resources")
    @classmethod
    def _check_resources(cls, value: dict[str, float]) -> dict[str, float]:
        for name, number in value.items():
            if not (math.isfinite(number) and number >= 0):
                raise ValueError(f"{name}: use a number that is 0 or more")
        return value

    @field_validator("queues", mode="before")
    @classmethod
    def _split_queues(cls, value: Any) -> Any:
        return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    @field_validator("queues")
    @classmethod
    def _check_queues(cls, value: list[str]) -> list[str]:
        if not value or not all(_NAME.fullmatch(name) for name in value):
            raise ValueError("give at least one queue, each named as a step is")
        return list(dict.fromkeys(value))

    @field_validator("labels", "resources", mode="before")
    @classmethod
    def _split_pairs(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [each.strip() for each in value.split(",") if each.strip()]
        return dict(map(_pair, value)) if isinstance(value, list | tuple) else value


def _complete(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        return f"{address}:{DEFAULT_PORT}"
    if not port.isdigit() or not host:
        raise ValueError("use host:port")
    return address


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r}: use name=value")
    return name, value


def variables(name: str) -> tuple[str, ...]:
    """Of the environment, for the setting."""
    return OTHER_VARIABLES.get(name, (PREFIX + name.upper(),))


def load_settings(flags: Mapping[str, Any] | None = None, file: str | None = None) -> AgentSettings:
    """Flags by field, then the environment, then the configuration file (`file`, or that in force), then defaults.
    Raises `SettingsError` that names every wrong setting."""
    found, given = _of_file(file), {**_environment(), **(flags or {})}
    places = {name: place(SECTION, name, file) for name in found if name not in given}
    try:
        return AgentSettings(**{**found, **given})
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise SettingsError("\n".join(_problem(problem, places) for problem in problems)) from None


def _of_file(file: str | None) -> dict[str, str]:
    try:
        return read_section(SECTION, AgentSettings.model_fields, file)
    except BadFile as error:
        raise SettingsError(str(error)) from None


def _environment() -> dict[str, str]:
    given: dict[str, str] = {}
    for name in AgentSettings.model_fields:
        for variable in variables(name):
            if value := os.environ.get(variable):
                given.setdefault(name, value)
    return given


def _problem(problem: Any, places: Mapping[str, str]) -> str:
    """With where the setting stands, if that is the configuration file."""
    name = str(problem["loc"][0]) if problem["loc"] else ""
    field = AgentSettings.model_fields.get(name)
    if field is None:
        return f"{name}: there is no such setting"
    message = problem["msg"].removeprefix("Value error, ")
    given = masked(str(problem["input"]))[:100]
    also = "" if name in places else f"; {variables(name)[0]}"
    return f"{places.get(name, name)}={given!r}: {message[:1].lower()}{message[1:]} ({field.description}{also})"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting as it is in force. `source` is "flag", "environment", "file" or "default"."""

    name: str
    variable: str
    value: str
    source: str
    description: str


def shown_settings(
    settings: AgentSettings, flags: Mapping[str, Any] | None = None, file: str | None = None
) -> list[ShownSetting]:
    """Every setting in the order of its definition. Flags and file as they were loaded with. An agent has no secret
    among them: those of users are files and variables of their own."""
    sources = {
        **dict.fromkeys(_of_file(file), "file"),
        **dict.fromkeys(_environment(), "environment"),
        **dict.fromkeys(flags or {}, "flag"),
    }
    return [
        ShownSetting(
            name,
            variables(name)[0],
            shown(getattr(settings, name)),
            sources.get(name, "default"),
            field.description or "",
        )
        for name, field in AgentSettings.model_fields.items()
    ]


def shown(value: object) -> str:
    """As it may be written in the environment, but for passwords in addresses."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list():
            return masked(",".join(map(str, value)))
        case dict():
            return ",".join(f"{name}={shown(each)}" for name, each in value.items())
        case _:
            return masked(str(value))
