"""The settings about users' secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr

from penstock_coordinator.adapters.secret_cipher import BadKey, kept_keys, read_keys
from penstock_coordinator.setting_kinds import unless_empty


def _keys(given: SecretStr) -> SecretStr:
    try:
        read_keys(given.get_secret_value())
    except BadKey as error:
        raise ValueError(str(error)) from None
    return given


class SecretSettings(BaseModel):
    """What encrypts the secrets that are kept in the database."""

    secrets_key: Annotated[Annotated[SecretStr, AfterValidator(_keys)] | None, BeforeValidator(unless_empty)] = Field(
        default=None,
        description="what users' secrets are encrypted with: 32 bytes in base64, older keys behind it with a comma"
        " between; without one the coordinator keeps no secrets",
    )
    secrets_key_file: Annotated[Path | None, BeforeValidator(unless_empty)] = Field(
        default=None, description="a file that holds it, a key per line, the newest first; in place of the variable"
    )

    def secrets_keys(self) -> list[bytes]:
        """The newest first; none: secrets are not kept. Raises `BadKey`, also if both settings are there."""
        return kept_keys(self)
