"""The agent's own log: events with the names that the coordinator has for the same things, and no password."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.inputs import Granted
from penstock_agent.own_log import ConsoleFormatter, Correlation, JsonFormatter, OwnLog
from penstock_agent.runtime.decoding import Decoder
from penstock_agent.runtime.wire import Work

URL = "https://user:canary-word@packages.internal/simple"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
log = OwnLog(__name__)


class Heard(logging.Handler):
    """What is said to a logger of this test's own, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def line(self, formatter: logging.Formatter) -> str:
        """The last one."""
        return formatter.format(self.records[-1])


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    for name, value in (("agent", ""), ("session", 0), ("attempt_of", None)):
        monkeypatch.setattr(Correlation, name, value)
    handler, logger = Heard(), logging.getLogger(__name__)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def say_all() -> None:
    """With an address among the fields, and in an error."""
    try:
        raise OSError(f"cannot reach {URL}")
    except OSError:
        log.exception("index_away", index=URL)


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_passwords_of_addresses_are_masked(heard: Heard, formatter: logging.Formatter) -> None:
    say_all()
    said = heard.line(formatter)
    assert "canary-word" not in said
    assert said.count("https://user:********@packages.internal") >= 2
    assert "Traceback" in said


def test_a_line_is_an_object_with_the_fields_of_the_coordinators(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Correlation, "agent", "agent-1")
    monkeypatch.setattr(Correlation, "session", 7)
    say_all()
    line = json.loads(heard.line(JsonFormatter()))
    assert line.pop("time").endswith("Z")
    assert line.pop("exception").endswith("OSError: cannot reach https://user:********@packages.internal/simple")
    assert line == {
        "level": "error",
        "logger": __name__,
        "event": "index_away",
        "index": "https://user:********@packages.internal/simple",
        "agent": "agent-1",
        "session": 7,
    }


def test_for_people_what_happened_comes_first(heard: Heard) -> None:
    log.info("disk_low", folder="/a folder", free_bytes=3)
    said = heard.line(ConsoleFormatter())
    assert said.split("Z ", 1)[1] == f"[info    ] {'disk_low':<30} [{__name__}] folder='/a folder' free_bytes=3"


def test_a_handle_is_written_as_its_attempt(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    log.info("inputs_not_fetched", handle=4, reason="gone")
    assert "handle" not in json.loads(heard.line(JsonFormatter()))
    monkeypatch.setattr(Correlation, "attempt_of", {4: {"run": "r", "attempt": 2}}.__getitem__)
    log.info("inputs_not_fetched", handle=4, reason="gone")
    line = json.loads(heard.line(JsonFormatter()))
    assert (line["run"], line["attempt"], line["reason"]) == ("r", 2, "gone")


def test_what_libraries_say_is_an_event(heard: Heard) -> None:
    logging.getLogger(__name__).warning("count %d", 3)
    assert json.loads(heard.line(JsonFormatter()))["event"] == "count 3"


def test_what_is_not_of_the_level_is_not_said(heard: Heard) -> None:
    log.debug("quiet")
    assert not heard.records
    assert not log.tells_all


@pytest.mark.parametrize(
    ("parent", "item", "more"),
    [
        (f"00-{TRACE}-{SPAN}-01", 3, {"item": 3, "trace": TRACE}),
        (f"00-{TRACE}-{SPAN}-00", -1, {"trace": TRACE}),
        ("no trace", -1, {}),
        ("", 0, {"item": 0}),
    ],
)
def test_an_attempt_is_named_as_the_coordinator_names_it(parent: str, item: int, more: dict[str, object]) -> None:
    ref = wire.LeaseRef(run_id=bytes(16), step=5, item=item, token=9)
    grant = wire.LeaseGrant(grant_seq=1, lease=ref, attempt=2, task=1, step_name="fit")
    grant.task_spec.command.argv.append("true")
    grant.trace_context["traceparent"] = parent
    granted = Decoder(1).decode(wire.CoordinatorMessage(lease_grants=wire.LeaseGrants(grants=[grant])))
    assert isinstance(granted, Granted)
    work = granted.grants[0].work
    assert isinstance(work, Work)
    run = "00000000-0000-0000-0000-000000000000"
    assert work.names == {"run": run, "step": "fit", "attempt": 2, **more}
