"""Programs that are in no Python package, out of Debian's: Prometheus, Alertmanager, docker-compose, rsyslog.

Packages are fetched and unpacked into a folder of the virtual environment, once. Nothing is installed, so that no right
of root is needed, and the system stays as it is. Where there is no apt-get, programs are looked for on the PATH.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(sys.prefix) / "debian"
PATIENCE = 240.0
_PLACES = {
    "prometheus": ("prometheus", "usr/bin/prometheus"),
    "promtool": ("prometheus", "usr/bin/promtool"),
    "alertmanager": ("prometheus-alertmanager", "usr/bin/prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "usr/bin/amtool"),
}
_RSYSLOG = ("rsyslog", "rsyslog-pgsql", "libestr0", "libfastjson4", "liblognorm5", "libpq5")
_TEMPLATES = b"/usr/share/prometheus/alertmanager"
_COMPOSE = (
    "docker-compose",
    *(
        f"python3-{name}"
        for name in (
            *("attr", "cached-property", "certifi", "chardet", "charset-normalizer", "distro", "distutils", "docker"),
            *("dockerpty", "docopt", "dotenv", "idna", "jsonschema", "pkg-resources", "pyrsistent", "requests", "six"),
            *("texttable", "urllib3", "websocket", "yaml"),
        )
    ),
)


def program(name: str) -> str:
    """The path of `prometheus`, `promtool`, `alertmanager` or `amtool`."""
    package, place = _PLACES[name]
    if not _has_apt():
        return _on_the_path(name)
    found = unpacked(package) / place
    return str(_moved(found) if package == "prometheus-alertmanager" else found)


def docker_compose() -> tuple[list[str], dict[str, str]]:
    """docker-compose 1.29, as the beginning of a command and what it wants in its environment.

    It is written in Python. Our interpreter runs it, without our packages: Debian's own need not be there.
    """
    if not _has_apt():
        return [_on_the_path("docker-compose")], {}
    root = unpacked(*_COMPOSE)
    start = "from compose.cli.main import main; main()"
    return [sys.executable, "-S", "-c", start], {"PYTHONPATH": str(root / "usr/lib/python3/dist-packages")}


def rsyslogd() -> tuple[list[str], dict[str, str]]:
    """rsyslog with its output to PostgreSQL, as the beginning of a command and what it wants in its environment."""
    if not _has_apt():
        return [_on_the_path("rsyslogd")], {}
    root = unpacked(*_RSYSLOG)
    (modules,) = root.glob("usr/lib/*/rsyslog")
    return [str(root / "usr/sbin/rsyslogd"), "-M", str(modules)], {"LD_LIBRARY_PATH": str(modules.parent)}


def unpacked(*packages: str) -> Path:
    """The folder that has the files of these packages, without those that they depend on."""
    FOLDER.mkdir(exist_ok=True)
    with _locked():
        kept = FOLDER / "packages"
        kept.mkdir(exist_ok=True)
        missing = [package for package in packages if not (kept / package).exists()]
        if missing:
            _fetch(missing)
            for package in missing:
                (kept / package).touch()
    return FOLDER / "root"


def _moved(program: Path) -> Path:
    """What does the same as this program of Alertmanager, and finds its templates where they were unpacked.

    Debian's build looks for them at one place of the system. In a copy that place is a descriptor, by a path of the
    same length, and what starts the copy opens it.
    """
    starter = program.with_suffix(".moved")
    with _locked():
        if not starter.exists():
            copy = program.with_suffix(".copy")
            copy.write_bytes(program.read_bytes().replace(_TEMPLATES, b"/proc/self/fd/9".ljust(len(_TEMPLATES), b"/")))
            copy.chmod(0o755)
            fresh = program.with_suffix(".fresh")
            folder = FOLDER / "root" / _TEMPLATES.decode()[1:]
            fresh.write_text(f"#!/bin/sh\nexec 9< '{folder}'\nexec '{copy}' \"$@\"\n")
            fresh.chmod(0o755)
            fresh.replace(starter)
    return starter


def _fetch(packages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as place:
        folder = Path(place)
        settings = _apart_from_the_system(folder)
        _call(folder, "apt-get", *settings, "-q", "update")
        _call(folder, "apt-get", *settings, "-q", "download", *packages)
        for archive in folder.glob("*.deb"):
            _call(folder, "dpkg-deb", "--extract", str(archive), str(FOLDER / "root"))


def _apart_from_the_system(folder: Path) -> list[str]:
    """apt's own lists may be old, and name versions that are there no more, or belong to root."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state/status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def _call(folder: Path, *command: str) -> None:
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr[-2_000:]}")


@contextmanager
def _locked() -> Iterator[None]:
    """Tests run in several processes."""
    with (FOLDER / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _has_apt() -> bool:
    return all(shutil.which(name) for name in ("apt-get", "dpkg-deb"))


def _on_the_path(name: str) -> str:
    found = shutil.which(name) or shutil.which(f"prometheus-{name}")
    if found is None:
        raise RuntimeError(f"{name} is missing: put it on the PATH, or run the tests where there is Debian's apt-get")
    return os.fspath(found)
