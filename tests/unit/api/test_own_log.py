"""The coordinator's own log: one JSON object per line, with the same names for the same things."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from penstock_coordinator.logs import TraceNames, configure_logging


class Written(io.StringIO):
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    stream = Written()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield stream
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_message_is_one_json_line(written: Written) -> None:
    configure_logging("info", "json", written)
    structlog.get_logger("penstock").info("happened", agent="a", item=3, run=bytes(16), text="two\nlines")
    (entry,) = written.entries()
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "event": "happened",
        "level": "info",
        "logger": "penstock",
        "agent": "a",
        "item": 3,
        "run": "00000000-0000-0000-0000-000000000000",
        "text": "two\nlines",
    }


@pytest.mark.parametrize(
    ("run", "spelled"),
    [
        ("0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"),
        ("01234567-89ab-cdef-0123-456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"),
        ("z" * 32, "z" * 32),
        (7, 7),
    ],
)
def test_run_ids_are_spelled_as_clients_spell_them(written: Written, run: object, spelled: object) -> None:
    configure_logging("info", "json", written)
    structlog.get_logger().info("happened", run=run, item=-1)
    (entry,) = written.entries()
    assert entry["run"] == spelled
    assert "item" not in entry


def test_lines_of_a_run_name_its_trace(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging("info", "json", written)
    monkeypatch.setattr(TraceNames, "of", {bytes(16): "abc"}.get)
    structlog.get_logger().info("happened", run=bytes(16).hex())
    structlog.get_logger().info("happened", run=bytes(15).hex() + "01")
    structlog.get_logger().info("happened", run="no id")
    structlog.get_logger().info("happened")
    assert [entry.get("trace") for entry in written.entries()] == ["abc", None, None, None]


def test_libraries_write_the_same_way(written: Written) -> None:
    configure_logging("info", "json", written)
    logging.getLogger("library").warning("count %d", 3)
    (entry,) = written.entries()
    assert (entry["event"], entry["level"], entry["logger"]) == ("count 3", "warning", "library")


def test_levels_are_heeded(written: Written) -> None:
    configure_logging("warning", "json", written)
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    logging.getLogger("aiohttp.access").info("quiet")
    structlog.get_logger().warning("loud")
    assert [entry["event"] for entry in written.entries()] == ["loud"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_error_keeps_its_trace_and_loses_passwords(written: Written, form: Any) -> None:
    configure_logging("info", form, written)
    try:
        raise RuntimeError("cannot reach postgresql://user:SECRETPW@host:5432/db")
    except RuntimeError as error:
        structlog.get_logger().error("failed", exc_info=error, urls=["redis://:SECRETPW@host"], reason=error)
        logging.getLogger("library").exception("failed with postgresql://user:SECRETPW@host")
    text = written.getvalue()
    assert "RuntimeError" in text
    assert "test_own_log.py" in text
    assert "user:********@host" in text
    assert "SECRETPW" not in text


def test_bound_context_is_on_every_line(written: Written) -> None:
    configure_logging("info", "json", written)
    with structlog.contextvars.bound_contextvars(session=7):
        structlog.get_logger().info("one")
        logging.getLogger("library").warning("two")
    assert [entry["session"] for entry in written.entries()] == [7, 7]


def test_it_may_be_configured_again(written: Written) -> None:
    configure_logging("info", "json", io.StringIO())
    configure_logging("info", "json", written)
    structlog.get_logger().info("once")
    assert len(written.entries()) == 1


def test_a_value_that_is_no_json_is_spelled(written: Written) -> None:
    configure_logging("info", "json", written)
    structlog.get_logger().info("happened", value={1, 2}.__class__)
    assert "set" in written.entries()[0]["value"]


def test_auto_is_json_where_nobody_watches(written: Written) -> None:
    configure_logging("info", "auto", written)
    structlog.get_logger().info("happened")
    assert written.entries()[0]["event"] == "happened"
