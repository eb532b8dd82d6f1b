"""What the worker needs of the SDK that user code imports: found by its name, as the code of a step is.

The SDK is the user's library: a step without artifacts runs where it is not installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

MODULE = "penstock.artifacts.exchange"
_HOME = "penstock.artifacts.artifact"


class Declaration(Protocol):
    """See `penstock.artifacts.exchange.Declaration`."""

    kind: str
    codec: str
    name: str
    suffix: str
    media_type: str
    metadata: Mapping[str, Any] | None
    path: Path | None
    write: Callable[[Path], None] | None
    is_json: bool
    json_value: Any
    digest: str
    size: int


class Library(Protocol):
    def declare(self, value: object, step: str, allow_pickle: bool) -> Declaration | None: ...

    def declare_pickle(self, value: object) -> Declaration: ...

    def restore(self, reference: Mapping[str, Any], path: str | None, step: str, allow_pickle: bool) -> Any: ...


class NoLibrary(Exception):
    """The SDK is not installed here."""


_LIBRARIES = frozenset({"pandas", "polars", "pyarrow", "numpy"})


def may_be_declared(value: object) -> bool:
    """Whether it is worth while to load the library for a value that is no JSON."""
    return (
        _HOME in sys.modules
        or isinstance(value, bytes | bytearray | memoryview)
        or type(value).__module__.partition(".")[0] in _LIBRARIES
    )


def load() -> Library:
    """Raises `NoLibrary`."""
    try:
        return cast("Library", importlib.import_module(MODULE))
    except ImportError as error:
        raise NoLibrary(
            f"artifacts need the package penstock where the step runs, and it is not there: {error}"
        ) from error
