"""Tiny packages to install, in a folder of the test: nothing comes from an index."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

_BACKEND = """
import os, pathlib, time, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    gate = pathlib.Path(os.environ["BUILD_GATE"])
    with (gate / "began").open("a") as began:
        began.write(f"{os.getpid()}\\n")
    while not (gate / "open").exists():
        time.sleep(0.01)
    name = "NAME-VERSION-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
"""


def make_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str] | None = None, needs: tuple[str, ...] = ()
) -> str:
    """Its one module, unless `files` says otherwise, is `<name>.py`, with `VERSION`. Returns the SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for place, text in _content(name, version, files, needs).items():
            wheel.writestr(place, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_gated_source(folder: Path, name: str, version: str) -> None:
    """A source distribution. Its build adds a line to `$BUILD_GATE/began`, and waits for `$BUILD_GATE/open`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = _content(name, version, None, ())
    backend = _BACKEND.replace("NAME", name).replace("VERSION", version).replace("FILES", repr(files))
    base = f"{name}-{version}"
    members = {
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'gated'\nbackend-path = ['.']\n"
        f"[project]\nname = '{name}'\nversion = '{version}'\n",
        "gated.py": backend,
        "PKG-INFO": files[f"{base}.dist-info/METADATA"],
    }
    with tarfile.open(folder / f"{base}.tar.gz", "w:gz") as archive:
        for place, text in members.items():
            member = tarfile.TarInfo(f"{base}/{place}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def without_index(folder: Path, wheels: Path) -> dict[str, str]:
    """Variables for uv: it finds nothing but these wheels, and keeps its cache in the folder."""
    return {
        "UV_FIND_LINKS": str(wheels),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(folder / "uv-cache"),
    }


def _content(name: str, version: str, files: Mapping[str, str] | None, needs: tuple[str, ...]) -> dict[str, str]:
    about = f"{name}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {each}\n" for each in needs)
    content = {
        **(files or {f"{name}.py": f"VERSION = {version!r}\n"}),
        f"{about}/METADATA": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n{needed}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return {**content, f"{about}/RECORD": "".join(f"{place},,\n" for place in [*content, f"{about}/RECORD"])}
