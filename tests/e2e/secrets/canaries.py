"""Where a secret may have come to, and in which guises it is looked for."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from tests.e2e.secrets.telling.secret_flows import encodings

from penstock.dev.postgres_binaries import installed_programs


def found_in(data: bytes, values: Mapping[str, str]) -> list[str]:
    """Which of the values, and in which encodings, in capitals or not."""
    lowered = data.lower()
    return [
        f"{name}: {encoding}"
        for name, value in values.items()
        for encoding, text in encodings(value).items()
        if text.encode().lower() in lowered
    ]


def dump(url: str) -> bytes:
    """All rows of all tables; `bytea` also as the bytes that they are."""
    program = installed_programs() / "bin" / "pg_dump"
    said = subprocess.run([program, "--data-only", "--inserts", url], capture_output=True, check=True).stdout
    raw = b"\n".join(bytes.fromhex(part.split(b"'")[0].decode()) for part in said.split(b"'\\x")[1:])
    return said + raw
