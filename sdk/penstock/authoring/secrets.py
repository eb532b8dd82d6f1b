"""The secrets that a step names: never their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import DefinitionError
from penstock.names import check_name

_MEMBERS = ("env", "file")
_REMEDY = 'give a list of names, or a dict from names to variables: {"db": "DB_PASSWORD"}, {"db": {"file": "password"}}'


@dataclass(frozen=True, slots=True)
class SecretUse:
    """A secret of the agent or the coordinator. A function reads it with `penstock.secret(name)` in any case."""

    name: str
    env: str = ""
    """The environment variable that holds it."""
    file: str = ""
    """The file that holds it, in the folder that PENSTOCK_SECRETS_DIR names."""


def read_secrets(value: Any, field: str) -> tuple[SecretUse, ...]:
    """By name. Raises `DefinitionError`."""
    return tuple(sorted(_uses(value, field), key=lambda use: use.name))


def _uses(value: Any, field: str) -> Iterable[SecretUse]:
    if isinstance(value, str):
        return [SecretUse(check_name(value, field))]
    if isinstance(value, Mapping):
        return [_use(check_name(name, field), how, f"{field}.{name}") for name, how in value.items()]
    if isinstance(value, Iterable):
        return [SecretUse(name) for name in dict.fromkeys(check_name(name, field) for name in value)]
    raise DefinitionError(f"{value!r} names no secrets", field=field, remedy=_REMEDY)


def _use(name: str, how: Any, field: str) -> SecretUse:
    if how is None:
        return SecretUse(name)
    if isinstance(how, str):
        return SecretUse(name, env=how)
    known = isinstance(how, Mapping) and all(key in _MEMBERS and isinstance(given, str) for key, given in how.items())
    if not known:
        raise DefinitionError(f"{how!r} does not say where the secret goes", field=field, remedy=_REMEDY)
    return SecretUse(name, env=how.get("env", ""), file=how.get("file", ""))
