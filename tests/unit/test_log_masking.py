"""What is hidden in the own logs of coordinators and agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import penstock_agent.log_masking
import penstock_coordinator.log_masking

PARTS: list[ModuleType] = [penstock_agent.log_masking, penstock_coordinator.log_masking]
LONG = 'a-C4nary/with "all" of+it ü'
ENVIRONMENT = {
    "AWS_SESSION_TOKEN": "canary-of-aws-session",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20canary-of-otlp%2Bheader, canary-of-torn-header",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-key=canary-of-traces",
    "PENSTOCK_SECRET_DB": "canary-of-own-secret",
    "UV_INDEX_URL": "https://user:canary%2Fof-index@packages.internal/simple",
    "PATH": "/usr/bin/some-long-path",
    "AWS_SECRET_ACCESS_KEY": "short",
    "PGPASSWORD": "canary-of-libpq",
    "PENSTOCK_DATABASE_URL": "postgresql:///d?password=canary%2Fof-query",
    "PIP_INDEX_URL": "https://canary-of-token@packages.internal/simple",
}


@pytest.fixture(params=PARTS, ids=lambda part: part.__name__.partition(".")[0])
def part(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    made: ModuleType = request.param
    yield made
    made.hide([])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://user:pw@host/d now", "at postgresql://user:********@host/d now"),
        ("redis://:pw@host, S3://key:pw@host", "redis://:********@host, S3://key:********@host"),
        ("at postgresql://user:p@ss@w@host/d now", "at postgresql://user:********@host/d now"),
        ('x://u:p"w@host', "x://u:********@host"),
        ("https://some-token@host/simple", "https://********@host/simple"),
        ("https://host/?mail=a@b ssh://git@host", "https://host/?mail=a@b ssh://git@host"),
        ("postgresql://h/d?user=u&password=pw&a=b", "postgresql://h/d?user=u&password=********&a=b"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("mail a@b of 12:30", "mail a@b of 12:30"),
    ],
)
def test_passwords_of_addresses_are_masked(part: ModuleType, text: str, shown: str) -> None:
    assert part.masked(text) == shown


@pytest.mark.parametrize("spelled", [str, repr, json.dumps, lambda text: json.dumps(text, ensure_ascii=False)])
def test_a_hidden_word_is_masked_as_lines_spell_it(part: ModuleType, spelled: object) -> None:
    assert callable(spelled)
    part.hide([LONG])
    line = part.masked(f"before {spelled(LONG)} after")
    assert "C4nary" not in line
    assert line.startswith("before ")
    assert line.endswith(" after")


def test_a_line_of_json_stays_one(part: ModuleType) -> None:
    part.hide([LONG])
    entry = {"reason": f"cannot use {LONG}", "urls": ["redis://:p\\w@h", 'x://h:1"'], "mail": "a@b"}
    line = json.loads(part.masked(json.dumps(entry)))
    assert line["reason"] == "cannot use ********"
    assert line["mail"] == "a@b"


def test_secrets_of_the_environment_are_found(part: ModuleType) -> None:
    part.hide(part.secrets_of(ENVIRONMENT))
    said = " | ".join(ENVIRONMENT.values()) + " | canary-of-otlp+header | canary/of-index"
    assert "canary" not in part.masked(said)
    assert "/usr/bin/some-long-path" in part.masked(said)
    assert "| short |" in part.masked(said), "what may be an ordinary word is left"


def test_what_is_no_secret_is_told(part: ModuleType) -> None:
    part.hide(part.secrets_of({"OTEL_EXPORTER_OTLP_HEADERS": "X-Scope-OrgID=penstock_agent"}))
    assert part.masked("logger penstock_agent.main") == "logger penstock_agent.main"


def test_numbers_stay_numbers(part: ModuleType) -> None:
    part.hide(["123456789012"])
    line = part.masked(json.dumps({"bytes": 51234567890127, "reason": "no 123456789012"}))
    assert "123456789012" not in line
    assert json.loads(line)["bytes"] == 59999999999997


def test_addresses_of_long_lines_are_looked_for_once(part: ModuleType) -> None:
    """Not from each letter to the end, which with a line of a megabyte would not come to an end."""
    text = "a" * 1_000_000
    assert list(part.passwords_in(text)) == []
    assert part.masked(f"{text} x://u:p@h") == f"{text} x://u:********@h"


def test_both_parts_hide_alike() -> None:
    assert len({Path(str(each.__file__)).read_text() for each in PARTS}) == 1
