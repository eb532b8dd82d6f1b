"""What the command line does where its output is closed, full, or cannot have every character."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def penstock(
    *arguments: str, encoding: str = "utf-8", stdout: str | None = None, closed: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own, as streams are those of processes; `closed`: a redirection of the shell."""
    with Path(stdout or os.devnull).open("wb") as file:
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -m penstock "$@" {closed}', sys.executable, *arguments],
            stdout=file if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            check=False,
        )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_the_terminal_does_not_have_ends_no_command(encoding: str, tmp_path: Path) -> None:
    config = tmp_path / "größe€.toml"
    config.write_text("")
    done = penstock("--config", str(config), "config", encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b".toml" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_whole_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[client]\ntrace_url = "http://127.0.0.1/€/{trace_id}"\n')
    done = penstock("--config", str(config), "config", "--json", encoding=encoding)
    assert "http://127.0.0.1/€/{trace_id}" in json.dumps(
        [json.loads(line) for line in done.stdout.splitlines()], ensure_ascii=False
    )


def test_a_full_disk_below_the_output_is_one_line() -> None:
    done = penstock("--help", stdout="/dev/full")
    assert done.returncode == 1
    assert done.stderr == b"penstock: No space left on device (PENSTOCK_DEBUG=1 shows where)\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_command_works_without_a_standard_stream(closed: str) -> None:
    done = penstock("config", closed=closed)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_remedy_for_a_file_that_may_not_be_read_is_not_its_encoding(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    link = tmp_path / "pipeline.yaml"
    link.symlink_to(link)
    done = penstock("validate", str(link))
    assert done.returncode == 2
    assert b"UTF-8" not in done.stderr
