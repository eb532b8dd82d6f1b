"""The whole check: up, seed, look, down."""

from __future__ import annotations

import secrets
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from tests.e2e.compose_without_docker.definition import ROOT, read_definition, read_variables
from tests.e2e.compose_without_docker.findings import find_figures, find_runs
from tests.e2e.compose_without_docker.system import System


async def check(folder: Path, say: Callable[[str], None]) -> None:
    """Raises `AssertionError` or `Failed` where the compose file does not keep what it promises. Leaves logs in the
    folder, and no process."""
    began = time.monotonic()

    def told(line: str) -> None:
        say(f"{time.monotonic() - began:5.1f} s  {line}")

    told("no image is built, and no container made: this is what the images would run")
    async with System(read_definition(_variables()), folder, told) as system:
        told("everything is healthy")
        await system.run_once("seed")
        told("the examples were applied, and each was run")
        await find_runs(system, told)
        await find_figures(system, told)
    told("everything has ended when it was asked to")


def _variables() -> dict[str, str]:
    """As `make env` would write them; with fewer slots, for what a machine of tests has."""
    example = read_variables((ROOT / ".env.example").read_text(encoding="utf-8"))
    made = {name: value or secrets.token_hex(24) for name, value in example.items()}
    key = b64encode(secrets.token_bytes(32)).decode()
    return {**made, "PENSTOCK_SECRETS_KEY": key, "PENSTOCK_AGENT_SLOTS": "2"}
