"""The client's settings: argument, then environment, then `[client]` of the configuration file, then default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from penstock.configuration_file import BadFile, file_in_force, place, read_section
from penstock.errors import SettingsError

DEFAULT_ADDRESS = "127.0.0.1:7400"
DEFAULT_PORT = 7400
ENV_PREFIX = "PENSTOCK_"
SECTION = "client"
_MASK = "********"
_REMEDIES = {
    "address": "write host:port, for example 127.0.0.1:7400",
    "trace_url": "write it as http://127.0.0.1:16686/trace/{trace_id}",
}


def config_file() -> Path:
    """Whether it is there or not."""
    return file_in_force()


class ClientSettings(BaseSettings):
    """PENSTOCK_ADDRESS, PENSTOCK_API_KEY and others in the environment, or `address`, `api_key` and others below
    `[client]` of the configuration file."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid")

    address: str = Field(
        default=DEFAULT_ADDRESS, description="host:port of the coordinator's gRPC; of several: a:7400,b:7400"
    )
    api_key: SecretStr | None = Field(default=None, description="sent with every call")
    api_key_file: Path | None = Field(default=None, description="a file that holds that key; in place of the variable")
    trace_url: str = Field(
        default="", description="where a run's trace is looked at; {trace_id} in it stands for the id of the trace"
    )

    @field_validator("address")
    @classmethod
    def _complete_address(cls, given: str) -> str:
        addresses = [complete_address(each) for each in given.split(",") if each.strip()]
        if not addresses:
            raise ValueError("the address is no host:port")
        return ",".join(dict.fromkeys(addresses))

    @field_validator("trace_url")
    @classmethod
    def _has_place_for_id(cls, given: str) -> str:
        if given and "{trace_id}" not in given:
            raise ValueError("the address of traces has no {trace_id}")
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, _read_file())


def complete_address(address: str) -> str:
    """host:port. A missing port is 7400; localhost is 127.0.0.1, where a coordinator listens by default."""
    host, colon, port = address.strip().rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address.strip(), str(DEFAULT_PORT)
    if not host or "/" in address or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError("the address is no host:port")
    return f"{'127.0.0.1' if host == 'localhost' else host}:{port}"


def _read_file() -> dict[str, Any]:
    try:
        return dict(read_section(SECTION, ClientSettings.model_fields))
    except BadFile as error:
        raise SettingsError(str(error)) from None


def load_settings(address: str | None = None, api_key: str | None = None) -> ClientSettings:
    """What is given here wins. SettingsError names the setting."""
    given: dict[str, Any] = {"address": address, "api_key": api_key}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        settings = ClientSettings(**given)
    except ValidationError as error:
        raise _settings_error(error, given) from None
    return settings if settings.api_key_file is None or api_key is not None else _with_key_of_file(settings)


def _with_key_of_file(settings: ClientSettings) -> ClientSettings:
    path, field = settings.api_key_file, _place("api_key_file")
    if settings.api_key is not None:
        raise SettingsError(f"{_place('api_key')} is set too", field=field, remedy="keep one of them")
    try:
        key = path.read_text().strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"{path} cannot be read: {why}", field=field, remedy="mend its path or rights") from None
    if not key:
        raise SettingsError(f"{path} is empty", field=field, remedy="write the key into it, or unset it")
    return settings.model_copy(update={"api_key": SecretStr(key)})


def _place(name: str, given: Mapping[str, Any] | None = None) -> str:
    """Where the setting stands, if that is the configuration file, else its name. `given`: what the caller gives."""
    elsewhere = {**EnvSettingsSource(ClientSettings)(), **(given or {})}
    return place(SECTION, name) if name in _read_file() and name not in elsewhere else name


def _settings_error(error: ValidationError, given: Mapping[str, Any]) -> SettingsError:
    problem = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in problem["loc"])
    known = ", ".join(ClientSettings.model_fields)
    remedy = _REMEDIES.get(name, f"known settings: {known}")
    return SettingsError(problem["msg"].removeprefix("Value error, "), field=_place(name, given), remedy=remedy)


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """One setting as it is in force. Secrets are masked."""

    name: str
    value: str
    source: str
    description: str


def shown_settings(address: str | None = None) -> list[ShownSetting]:
    """Every setting with its value and where it comes from."""
    settings = load_settings(address)
    sources: dict[str, str] = {"api_key": "file of api_key_file"} if settings.api_key_file else {}
    sources |= dict.fromkeys(_read_file(), str(config_file()))
    environment = EnvSettingsSource(ClientSettings)()
    sources |= {name: f"environment {ENV_PREFIX}{name.upper()}" for name in environment}
    if address is not None:
        sources["address"] = "argument --address"
    return [
        ShownSetting(name, _shown(getattr(settings, name)), sources.get(name, "default"), field.description or "")
        for name, field in ClientSettings.model_fields.items()
    ]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return _MASK if isinstance(value, SecretStr) else str(value)
