"""How values become files and values again.

A codec is found by the type of the value when it is written, and by its name, which the reference bears, when it is
read. Types are named by text, so that no library is imported until a value of it is met.
"""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from penstock.errors import ArtifactError

PICKLE = "pickle"


@dataclass(frozen=True, slots=True)
class Codec:
    """`write(value, path)` makes the file, `read(path)` gives the value back."""

    name: str
    write: Callable[[Any, Path], None]
    read: Callable[[Path], Any]
    media_type: str = "application/octet-stream"
    suffix: str = ""
    """Of the file's name, such as ".parquet"."""


_by_name: dict[str, Codec] = {}
_by_class: dict[type, Codec] = {}
_by_path: dict[str, Codec] = {}
"""By the dotted name of a type; of libraries also by package and name: they move their classes about."""


def register_codec(
    name: str,
    types: type | str | Iterable[type | str],
    *,
    write: Callable[[Any, Path], None],
    read: Callable[[Path], Any],
    media_type: str = "application/octet-stream",
    suffix: str = "",
) -> Codec:
    """Values of these types are kept in the artifact store when a step returns them, alone or in lists and dicts.

    A type is a class or its dotted name (then its library is not imported); subclasses count. The newest codec of a
    type wins. Call it where every step that writes or reads such values imports it. ArtifactError: the name is that of
    a codec of Penstock's own.
    """
    if not name or name in _OWN_NAMES:
        raise ArtifactError(f"a codec cannot have the name {name!r}", remedy="choose another name")
    return _register(Codec(name, write, read, media_type, suffix), types)


def _register(codec: Codec, types: type | str | Iterable[type | str]) -> Codec:
    _by_name[codec.name] = codec
    for each in [types] if isinstance(types, type | str) else types:
        if isinstance(each, str):
            _by_path[each] = codec
        else:
            _by_class[each] = codec
    return codec


def codec_of(value: object) -> Codec | None:
    """For values of this type; None if there is none."""
    for cls in type(value).__mro__:
        path = f"{cls.__module__}.{cls.__qualname__}"
        package = f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"
        found = _by_class.get(cls) or _by_path.get(path) or _by_path.get(package)
        if found is not None:
            return found
    return None


def codec_named(name: str) -> Codec:
    """ArtifactError: there is none."""
    codec = _by_name.get(name)
    if codec is None:
        raise ArtifactError(
            f"there is no codec {name!r} here", remedy="import the module that registers it (register_codec)"
        )
    return codec


def codec_for_file(name: str) -> Codec:
    """By the ending of the name; bytes if it says nothing."""
    return _by_name[_BY_ENDING.get(PurePosixPath(name).suffix.lower(), "bytes")]


def _library(module: str, need: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArtifactError(
            f"{need} needs {module}, which is not installed ({error})",
            remedy=f"install {module} where it is read or written",
        ) from None


def _write_json(value: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _read_json(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def _write_text(value: Any, path: Path) -> None:
    path.write_bytes(value.encode())


def _read_text(path: Path) -> str:
    return path.read_bytes().decode()


def _write_bytes(value: Any, path: Path) -> None:
    path.write_bytes(value)


def _write_pandas(value: Any, path: Path) -> None:
    _library("pyarrow", "a pandas DataFrame as parquet")
    try:
        value.to_parquet(path, engine="pyarrow")
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            f"the DataFrame cannot be written as parquet: {error}", remedy="convert its columns"
        ) from error


def _read_pandas(path: Path) -> Any:
    _library("pyarrow", "a pandas DataFrame as parquet")
    return _library("pandas", "a DataFrame").read_parquet(path, engine="pyarrow")


def _write_series(value: Any, path: Path) -> None:
    """With its name: None is not a name of a column."""
    _write_pandas(value.to_frame(name="value" if value.name is None else value.name), path)


def _read_series(path: Path) -> Any:
    return _read_pandas(path).iloc[:, 0]


def _write_polars(value: Any, path: Path) -> None:
    value.write_parquet(path)


def _read_polars(path: Path) -> Any:
    return _library("polars", "a DataFrame of polars").read_parquet(path)


def _write_arrow(value: Any, path: Path) -> None:
    _library("pyarrow.parquet", "a table of pyarrow").write_table(value, path)


def _read_arrow(path: Path) -> Any:
    return _library("pyarrow.parquet", "a table of pyarrow").read_table(path)


def _write_numpy(value: Any, path: Path) -> None:
    try:
        with path.open("wb") as file:
            _library("numpy", "an array").save(file, value, allow_pickle=False)
    except ValueError as error:
        raise ArtifactError(
            f"the array cannot be written: {error}",
            remedy="an array of Python objects would need a pickle: return a list",
        ) from error


def _read_numpy(path: Path) -> Any:
    return _library("numpy", "an array").load(path, allow_pickle=False)


def _write_pickle(value: Any, path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - the pipeline allows it by name; the caller has looked


_PARQUET = "application/vnd.apache.parquet"
_OWN: tuple[tuple[Codec, tuple[type | str, ...]], ...] = (
    (Codec("json", _write_json, _read_json, "application/json", ".json"), ()),
    (Codec("text", _write_text, _read_text, "text/plain; charset=utf-8", ".txt"), ()),
    (Codec("bytes", _write_bytes, Path.read_bytes, suffix=".bin"), (bytes, bytearray, memoryview)),
    (Codec("pandas-parquet", _write_pandas, _read_pandas, _PARQUET, ".parquet"), ("pandas.DataFrame",)),
    (Codec("pandas-series", _write_series, _read_series, _PARQUET, ".parquet"), ("pandas.Series",)),
    (Codec("polars-parquet", _write_polars, _read_polars, _PARQUET, ".parquet"), ("polars.DataFrame",)),
    (Codec("arrow-parquet", _write_arrow, _read_arrow, _PARQUET, ".parquet"), ("pyarrow.Table",)),
    (Codec("npy", _write_numpy, _read_numpy, "application/x-npy", ".npy"), ("numpy.ndarray",)),
    (Codec(PICKLE, _write_pickle, _read_pickle, "application/x-pickle", ".pickle"), ()),
)
_BY_ENDING = {
    ".json": "json",
    ".csv": "text",
    ".txt": "text",
    ".md": "text",
    ".npy": "npy",
    ".parquet": "pandas-parquet",
}
_OWN_NAMES = frozenset(codec.name for codec, _ in _OWN)
for _codec, _types in _OWN:
    _register(_codec, _types)
