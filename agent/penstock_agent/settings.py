"""The agent's settings: command line, then environment, then default."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from penstock_agent.environment_settings import EnvironmentSettings
from penstock_agent.resources.gpus import named
from penstock_agent.resources.machine import whole_cores

DEFAULT_PORT = 7400
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class AgentSettings(EnvironmentSettings):
    """PENSTOCK_AGENT_… of the environment, and PENSTOCK_ADDRESS. Lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_AGENT_", env_ignore_empty=True, extra="forbid")

    address: str = Field(
        default="127.0.0.1:7400",
        validation_alias=AliasChoices("address", "PENSTOCK_ADDRESS"),
        description="host:port of a coordinator, or of several: host:port,host:port",
    )
    id: str = Field(default="", description="name of this agent; kept in the data folder when not given")
    slots: int = Field(default_factory=whole_cores, ge=1, le=1024, description="attempts that run at once")
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
        validation_alias=AliasChoices(
            "container_engine", "PENSTOCK_AGENT_CONTAINER_ENGINE", "PENSTOCK_CONTAINER_ENGINE"
        ),
        description="what runs steps that name a container image: auto, docker, podman or none",
    )
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_state_path("penstock") / "agent",
        description="folder for results that are not acknowledged, bundles and work; of one agent alone",
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
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="of the agent's own log")

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
