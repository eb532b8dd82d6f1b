"""A real S3 server for tests: one per session, a bucket per test."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock.dev.ports import claim

ACCESS_KEY, SECRET_KEY = "penstock-tests", "penstock-tests-secret"
PATIENCE = 60.0
_numbers = itertools.count(1)
_PORTS = ("s3.port", "filer.port", "master.port", "volume.port", "webdav.port", "admin.port")
_GRPC_OFFSET = 10_000
_FIRST, _LAST = 12_000, 22_000
"""Below those that the system gives away, so that what is free stays free; the server takes each plus 10,000 too."""


@dataclass(frozen=True)
class SeaweedServer:
    endpoint: str

    def url(self, prefix: str = "") -> str:
        """Of a bucket of its own: PENSTOCK_ARTIFACTS_URL."""
        return f"s3://penstock/{prefix or f'test-{next(_numbers)}'}?endpoint={self.endpoint}&region=us-east-1"


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@contextmanager
def running_seaweed(
    folder: Path, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY
) -> Iterator[SeaweedServer]:
    """In this folder, until the end. With the bucket `penstock`, and one user."""
    folder.mkdir(exist_ok=True)
    keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    process, port = _start(folder, keys)
    try:
        yield SeaweedServer(f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS names them, for what the test starts."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def _start(folder: Path, keys: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """Others look for free ports too: if one took one of ours meanwhile, with others again."""
    for _ in range(5):
        ports = _free_ports(len(_PORTS))
        flags = [f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).parent / "weed"), "mini", f"-dir={folder}", "-bucket=penstock"),
                    *(
                        "-ip=127.0.0.1",
                        "-ip.bind=127.0.0.1",
                        "-master.telemetry=false",
                        "-admin.ui=false",
                        "-s3.port.iceberg=0",
                        "-s3.port.lance=0",
                    ),
                    *flags,
                ],
                env={**os.environ, **keys},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
            )
        if _answers(process, ports[0]):
            return process, ports[0]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    raise RuntimeError((folder / "log").read_text(errors="replace")[-2_000:])


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/penstock", timeout=2):
                return True
        except urllib.error.HTTPError as error:
            if error.code == 403:  # it is there, and wants to know who asks
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    start = _FIRST + (os.getpid() * 37) % (_LAST - _FIRST)
    for offset in range(_LAST - _FIRST):
        port = _FIRST + (start - _FIRST + offset) % (_LAST - _FIRST)
        both = (port, port + _GRPC_OFFSET)
        if all(map(_is_free, both)) and all(map(claim, both)):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
