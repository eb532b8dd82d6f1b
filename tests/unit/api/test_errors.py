"""How errors are put on the wire."""

from __future__ import annotations

import inspect
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # the package has no stubs
from hypothesis import given
from hypothesis import strategies as st

from penstock_coordinator import ports
from penstock_coordinator.api import errors
from penstock_coordinator.api.errors import CallError, Violation, clip, translate, wire_status
from penstock_coordinator.runtime import views

LARGEST_TRAILERS = 8 << 10
PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))
"""What gRPC does not escape in a message."""
CANARY = "select 1 from postgresql://user:SECRETPW@host/db"
SAMPLES: dict[type[Exception], Exception] = {
    ports.Unavailable: ports.Unavailable(CANARY),
    ports.DatabaseFull: ports.DatabaseFull(CANARY),
    ports.StoreUnavailable: ports.StoreUnavailable(CANARY),
    ports.Crowded: ports.Crowded(CANARY),
    ports.Fenced: ports.Fenced(CANARY),
    views.Stopping: views.Stopping(CANARY),
    views.Overloaded: views.Overloaded("too many", 1_500_000),
    views.Undecided: views.Undecided(5.0),
    views.TooManyWatchers: views.TooManyWatchers("the run", 2, 2, "PENSTOCK_MAX_WATCHERS_OF_RUN"),
    views.OutputTooLarge: views.OutputTooLarge(CANARY),
    views.UnknownRun: views.UnknownRun(CANARY),
    views.UnknownStepRun: views.UnknownStepRun(CANARY),
    views.UnknownVersion: views.UnknownVersion("p", 3),
    views.NotConnected: views.NotConnected(CANARY),
    views.EventNotYet: views.EventNotYet(7),
    views.SlowReader: views.SlowReader(8),
    views.SetAside: views.SetAside(bytes(16), "it is damaged"),
    views.NotAccepted: views.NotAccepted(CANARY),
    DecodeError: DecodeError(CANARY),
}
EXPECTED = {
    ports.Unavailable: ("UNAVAILABLE", "DATABASE_UNAVAILABLE", 1_000_000),
    ports.DatabaseFull: ("UNAVAILABLE", "DATABASE_FULL", 1_000_000),
    ports.StoreUnavailable: ("UNAVAILABLE", "ARTIFACT_STORE_UNAVAILABLE", 1_000_000),
    ports.Crowded: ("RESOURCE_EXHAUSTED", "DATABASE_BUSY", 1_000_000),
    ports.Fenced: ("UNAVAILABLE", "STOPPING", 1_000_000),
    views.Stopping: ("UNAVAILABLE", "STOPPING", 1_000_000),
    views.Overloaded: ("RESOURCE_EXHAUSTED", "OVERLOADED", 1_500_000),
    views.Undecided: ("UNAVAILABLE", "OUTCOME_UNKNOWN", 1_000_000),
    views.TooManyWatchers: ("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHERS", 1_000_000),
    views.OutputTooLarge: ("RESOURCE_EXHAUSTED", "OUTPUT_TOO_LARGE", None),
    views.UnknownRun: ("NOT_FOUND", "UNKNOWN_RUN", None),
    views.UnknownStepRun: ("NOT_FOUND", "UNKNOWN_STEP_RUN", None),
    views.UnknownVersion: ("NOT_FOUND", "UNKNOWN_VERSION", None),
    views.NotConnected: ("FAILED_PRECONDITION", "NOT_CONNECTED", None),
    views.EventNotYet: ("OUT_OF_RANGE", "EVENT_NOT_YET", None),
    views.SlowReader: ("RESOURCE_EXHAUSTED", "SLOW_READER", 100_000),
    views.SetAside: ("FAILED_PRECONDITION", "RUN_SET_ASIDE", None),
    views.NotAccepted: ("ABORTED", "NOT_ACCEPTED", None),
    DecodeError: ("INVALID_ARGUMENT", "MALFORMED_MESSAGE", None),
}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_each_foreseen_error_has_its_code(kind: type[Exception]) -> None:
    told = translate(SAMPLES[kind])
    assert told is not None
    assert (told.code.name, told.reason, told.retry_after) == EXPECTED[kind]
    assert "SECRETPW" not in repr(wire_status(told))


def test_those_who_are_told_the_same_at_once_are_spread_over_half_as_much_again() -> None:
    error = CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, "FULL", "no room", retry_after=1_000_000)
    delays = []
    for _ in range(200):
        retry: Any = _details(error)[1]["RetryInfo"]
        delays.append(retry.retry_delay.ToMilliseconds())
    assert 1_000 <= min(delays) < 1_100
    assert 1_400 < max(delays) <= 1_500


def test_no_error_of_the_runtime_is_forgotten() -> None:
    """Whoever adds one says here what callers are told of it."""
    raised = {
        found
        for module in (ports, views)
        for found in vars(module).values()
        if inspect.isclass(found) and issubclass(found, Exception) and found.__module__ == module.__name__
    }
    assert raised <= set(EXPECTED)


def test_an_unforeseen_error_has_no_translation() -> None:
    assert translate(RuntimeError("secret")) is None


def test_only_what_may_be_repeated_asks_for_it() -> None:
    """A delay comes with UNAVAILABLE and RESOURCE_EXHAUSTED alone: clients repeat what has one."""
    for kind, (code, _, retry) in EXPECTED.items():
        if retry is not None:
            assert code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"), kind


def _details(error: CallError) -> tuple[status_pb2.Status, dict[str, Message]]:
    ((key, packed),) = wire_status(error).trailing_metadata
    assert key == "grpc-status-details-bin"
    status = status_pb2.Status.FromString(packed)
    found: dict[str, Message] = {}
    for detail in status.details:
        kind: Any = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])
        found[kind.__name__] = kind.FromString(detail.value)
    return status, found


def test_the_details_say_the_same_as_the_status() -> None:
    error = CallError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "FULL",
        "no room",
        violations=[Violation("a.b", "is wrong: mend it")],
        metadata={"k": "v"},
        retry_after=1_250_000,
    )
    status, found = _details(error)
    assert (status.code, status.message) == (8, "no room")
    info: Any = found["ErrorInfo"]
    assert (info.reason, info.domain, dict(info.metadata)) == ("FULL", "penstock", {"k": "v"})
    bad: Any = found["BadRequest"]
    assert [(each.field, each.description) for each in bad.field_violations] == [("a.b", "is wrong: mend it")]
    retry: Any = found["RetryInfo"]
    assert 1_250 <= retry.retry_delay.ToMilliseconds() <= 1_875


def test_a_part_of_a_request_is_named_from_the_whole() -> None:
    error = errors.invalid("parameters.n", "is missing").within("requests[3]")
    assert error.message == "requests[3].parameters.n: is missing"
    assert [each.field for each in error.violations] == ["requests[3].parameters.n"]
    plain = errors.exhausted("FULL", "no room", 5).within("requests[0]")
    assert (plain.message, plain.retry_after) == ("requests[0]: no room", 5)


texts = st.text(max_size=5_000)


@given(message=texts, violations=st.lists(st.tuples(texts, texts), max_size=60))
def test_everything_fits_into_the_trailers(message: str, violations: list[tuple[str, str]]) -> None:
    error = CallError(
        grpc.StatusCode.INVALID_ARGUMENT, "R", message, violations=[Violation(*each) for each in violations]
    )
    status = wire_status(error)
    trailer = len(status.trailing_metadata[0][1]) * 4 / 3
    assert trailer + len(quote(status.details, safe=PLAIN)) < LARGEST_TRAILERS


def test_what_is_no_unicode_text_can_be_said_too() -> None:
    error = errors.invalid("a\udcff", "b\udcff")
    assert "\udcff" not in wire_status(error).details


@given(texts)
def test_a_clipped_text_is_a_beginning(text: str) -> None:
    clipped = clip(text, 100)
    assert clipped == text or (clipped.endswith("...") and text.startswith(clipped[:-3]) and len(clipped) <= 100)
