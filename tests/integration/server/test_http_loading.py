"""How the coordinator loads its HTTP server: without authorities that nobody asks, which others find as ever."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys

import pytest

LOADED = """
import os, ssl
from penstock_coordinator.__main__ import load_http
load_http()
from aiohttp import connector
print(len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()), os.environ.get("SSL_CERT_FILE"),
    len(ssl.create_default_context().get_ca_certs()))
"""


@pytest.mark.parametrize("given", [None, ssl.get_default_verify_paths().openssl_cafile])
def test_only_those_who_connect_read_authorities(given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    if given is not None:
        environment["SSL_CERT_FILE"] = given
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    there = subprocess.run(
        [sys.executable, "-c", "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["0", str(given), there.stdout.strip()]
