"""No password of an address gets into the agent's own log, in whatever form it is written."""

from __future__ import annotations

import json
import logging
import sys
import tomllib
from pathlib import Path

import pytest

from penstock_agent.runtime.own_log import ConsoleFormatter, JsonFormatter

URL = "https://user:canary-word@packages.internal/simple"


def record() -> logging.LogRecord:
    """With the address in its message, in what is passed beside it, and in an error."""
    try:
        raise OSError(f"cannot reach {URL}")
    except OSError:
        made = logging.LogRecord("agent", logging.ERROR, __file__, 1, "failed: %s", (URL,), sys.exc_info())
    vars(made)["index"] = URL
    return made


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter("%(message)s")])
def test_passwords_of_addresses_are_masked(formatter: logging.Formatter) -> None:
    said = formatter.format(record())
    assert "canary-word" not in said
    assert "https://user:********@packages.internal" in said


def test_a_masked_line_is_json_still() -> None:
    line = json.loads(JsonFormatter().format(record()))
    assert line["index"] == "https://user:********@packages.internal/simple"


def test_the_example_that_ships_logs_leads_from_files_to_a_store() -> None:
    example = tomllib.loads((Path(__file__).parents[3] / "deploy" / "logs" / "vector.toml").read_text())
    assert example["transforms"]["lines"]["inputs"] == list(example["sources"])
    assert example["sinks"]["loki"]["inputs"] == list(example["transforms"])
    assert set(example["sinks"]["loki"]["labels"]) == {"service", "level"}, "bounded ones alone"
