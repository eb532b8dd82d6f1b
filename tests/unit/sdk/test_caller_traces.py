"""What a program's spans have to do with the runs that it starts."""

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span

from penstock.errors import SettingsError
from penstock.settings import load_settings
from penstock.tracing import current_context, trace_link

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


def inside(state: str = "a=1") -> dict[str, str]:
    flags, header = TraceFlags(TraceFlags.SAMPLED), TraceState.from_header([state])
    with use_span(NonRecordingSpan(SpanContext(TRACE, SPAN, is_remote=False, trace_flags=flags, trace_state=header))):
        return current_context()


def test_the_span_that_the_caller_is_in_is_told() -> None:
    assert inside() == {"traceparent": f"00-{TRACE:032x}-{SPAN:016x}-01", "tracestate": "a=1"}


def test_without_a_span_there_is_nothing_to_tell() -> None:
    assert not trace.get_current_span().get_span_context().is_valid
    assert current_context() == {}


def test_a_state_that_no_coordinator_takes_stays_behind() -> None:
    long = ",".join(f"key{number}={'v' * 200}" for number in range(4))
    assert list(inside(long)) == ["traceparent"]


def test_nothing_is_loaded_for_a_program_that_has_no_traces() -> None:
    program = (
        "import sys; from penstock.client.client import Client; from penstock.tracing import current_context;"
        " assert current_context() == {}; print([name for name in sys.modules if 'telemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_link_has_the_id_in_its_place() -> None:
    assert trace_link("http://h/trace/{trace_id}?x", "ab") == "http://h/trace/ab?x"
    assert trace_link("", "ab") == trace_link("http://h/{trace_id}", "") == ""


def test_an_address_without_a_place_for_the_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_TRACE_URL", "http://h/trace/")
    with pytest.raises(SettingsError, match=r"trace_url.*\{trace_id\}"):
        load_settings()
