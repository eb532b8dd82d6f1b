"""Settings of Redis, which coordinators share their hot state by if there is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr

from penstock_coordinator.setting_kinds import unless_empty

_QUERIES = frozenset({"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"})
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_EXAMPLE = "write redis://host:6379/0, with user:password@ before the host if it asks, or rediss:// for TLS"


def _redis(given: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(given.get_secret_value())
        usable = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"(/[0-9]{0,4})?", parts.path):
        raise ValueError(f"is no URL of Redis: {_EXAMPLE}")
    unknown = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - _QUERIES
    if unknown:
        known = ", ".join(sorted(_QUERIES))
        raise ValueError(f"has {sorted(unknown)[0]!r} behind its question mark, where only {known} may be")
    return given


def _namespace(given: str) -> str:
    if not _NAMESPACE.fullmatch(given):
        raise ValueError("is no name: write up to 64 letters, digits, dots, dashes and underscores")
    return given


class RedisSettings(BaseModel):
    redis_url: Annotated[Annotated[SecretStr, AfterValidator(_redis)] | None, BeforeValidator(unless_empty)] = Field(
        default=None,
        description="Redis or Valkey by which several coordinators tell each other what they have to do:"
        " redis://user:password@host:6379/0, rediss:// with TLS; unset: PostgreSQL does it",
    )
    redis_url_file: Annotated[Path | None, BeforeValidator(unless_empty)] = Field(
        default=None, description="a file that holds that URL; in place of the variable"
    )
    redis_namespace: Annotated[str, AfterValidator(_namespace)] = Field(
        default="penstock",
        description="what keys in Redis begin with, penstock:{namespace}:, one for each database that shares it",
    )
