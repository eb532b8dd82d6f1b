"""Every error that a caller can see, in one place.

An error is a canonical code, a message for people, and details for programs: `ErrorInfo` with a reason of the domain
"penstock", `BadRequest` with the path of each wrong field and the remedy, `RetryInfo` when the same call may succeed
later. Paths are those of the request in the proto's own spelling (`parameters.n`, `page_size`); only what is wrong in a
specification is named from the specification on (`steps[2].depends_on[0]`), for Create and Validate alike.

Texts of exceptions never leave this process: what nobody foresaw is INTERNAL with a number to look for in the log.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # the package has no stubs

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.ports import Crowded, DatabaseFull, Fenced, StoreUnavailable, Unavailable
from penstock_coordinator.runtime.absent_runs import RemovedRun
from penstock_coordinator.runtime.views import (
    EventNotYet,
    NotAccepted,
    NotConnected,
    OutputTooLarge,
    Overloaded,
    SetAside,
    SlowReader,
    Stopping,
    TooManyWatchers,
    Undecided,
    UnknownRun,
    UnknownStepRun,
    UnknownVersion,
)

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Json

DOMAIN = "penstock"
STATUS_KEY = "grpc-status-details-bin"

MESSAGE_BYTES = 1_000
VIOLATION_BYTES = 3_000
"""All trailing metadata of a call must fit in 8 KiB, where the message comes twice and the details in base64."""
SHOWN_VIOLATIONS = 3
"""So many are in the message too, for clients that do not read details."""

_SECOND = 1_000_000


class Violation(NamedTuple):
    """A wrong field. `description` says what is wrong and how to mend it."""

    field: str
    description: str


class CallError(Exception):
    """What a call is answered with instead of a response. `retry_after` is microseconds."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        violations: Iterable[Violation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after

    def within(self, path: str) -> CallError:
        """The same error of a part of the request: its fields are named from the path on."""
        violations = [Violation(f"{path}.{each.field}", each.description) for each in self.violations]
        return CallError(
            self.code,
            self.reason,
            _listed(tuple(violations)) if violations else f"{path}: {self.message}",
            violations=violations,
            metadata=self.metadata,
            retry_after=self.retry_after,
        )


# --- what services raise ----------------------------------------------------------------------------------------------


def invalid(field: str, description: str) -> CallError:
    """One field of the request is wrong."""
    return invalid_fields([Violation(field, description)])


def invalid_fields(violations: Iterable[Violation], reason: str = "INVALID_REQUEST") -> CallError:
    found = tuple(violations)
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, reason, _listed(found), violations=found)


def not_found(field: str, reason: str, message: str) -> CallError:
    """What the field names is not there."""
    return CallError(grpc.StatusCode.NOT_FOUND, reason, message, violations=[Violation(field, message)])


def unknown_version(name: str, number: int, field: str = "version_number") -> CallError:
    remedy = f"`penstock list versions --pipeline {name}` (ListVersions) names those that there are"
    return not_found(field, "UNKNOWN_VERSION", f"the pipeline {quoted(name)} has no version {number}: {remedy}")


def _no_version(pipeline: str, number: int) -> CallError:
    """Of a run that is to go on with another version than its own."""
    if number:
        return unknown_version(pipeline, number)
    text = f"the pipeline {pipeline!r} was deleted, and has no newest version: apply it again, or leave this out"
    return failed_precondition("newest_version", "UNKNOWN_PIPELINE", text)


def failed_precondition(field: str, reason: str, message: str) -> CallError:
    return CallError(grpc.StatusCode.FAILED_PRECONDITION, reason, message, violations=[Violation(field, message)])


def exhausted(reason: str, message: str, retry_after: int | None = None) -> CallError:
    """A limit is passed; with `retry_after` (microseconds) the same call may succeed later."""
    return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message, retry_after=retry_after)


def request_id_reused(field: str = "request_id") -> CallError:
    message = "the request id came before with other content: repeat that call unchanged, or choose a new id"
    return CallError(
        grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", message, violations=[Violation(field, message)]
    )


def unknown_run(field: str = "run_id") -> CallError:
    return not_found(field, "UNKNOWN_RUN", "there is no such run, or it was removed long ago")


def removed_run(error: RemovedRun) -> CallError:
    when = datetime.fromtimestamp(error.removed_at // _SECOND, UTC)
    message = f"the run was removed on {when:%Y-%m-%d at %H:%M} UTC, when its time to be kept was over"
    return not_found(error.field, "RUN_REMOVED", message)


def _listed(violations: tuple[Violation, ...]) -> str:
    shown = "; ".join(f"{each.field}: {each.description}" for each in violations[:SHOWN_VIOLATIONS])
    more = len(violations) - SHOWN_VIOLATIONS
    return f"{shown}; and {more} more" if more > 0 else shown


# --- what the runtime raises ------------------------------------------------------------------------------------------

_Translation: TypeAlias = Callable[[Any], CallError]


def _away(error: Unavailable) -> CallError:
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        "DATABASE_UNAVAILABLE",
        "the coordinator cannot reach its database: try again soon",
        retry_after=error.retry_after or _SECOND,
    )


def _no_room(error: DatabaseFull) -> CallError:
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        "DATABASE_FULL",
        "the disk of the coordinator's database is full: whoever runs it has to make room; then try again",
        retry_after=error.retry_after or _SECOND,
    )


def _store_away(error: StoreUnavailable) -> CallError:
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        "ARTIFACT_STORE_UNAVAILABLE",
        "the artifact store cannot be reached, or its disk is full: `penstock health` shows it; try again soon",
        retry_after=error.retry_after or _SECOND,
    )


def _crowded(error: Crowded) -> CallError:
    message = "the connections to the database that there are for such calls are all in use: try again soon"
    return exhausted("DATABASE_BUSY", message, error.retry_after or _SECOND)


def _undecided(error: Undecided) -> CallError:
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        "OUTCOME_UNKNOWN",
        f"the database has not confirmed it for {error.seconds:g} s, and it may still be done: repeat the call with the"
        " same request id, which does it once",
        retry_after=_SECOND,
    )


def _stopping(_error: Stopping | Fenced) -> CallError:
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        "STOPPING",
        "the coordinator is stopping or just starting: try again soon",
        retry_after=_SECOND,
    )


def _overloaded(error: Overloaded) -> CallError:
    return CallError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "OVERLOADED",
        f"nothing was accepted: {error.what}",
        metadata={"short": error.cause} if error.cause else {},
        retry_after=error.retry_after,
    )


def _not_accepted(_error: NotAccepted) -> CallError:
    message = "the database did not take the request and nothing was stored: try again"
    return CallError(grpc.StatusCode.ABORTED, "NOT_ACCEPTED", message)


def _not_yet(error: EventNotYet) -> CallError:
    most = error.last + (error.field == "from_event")
    message = f"the run's newest event is number {error.last}: ask for {most} at most"
    return CallError(
        grpc.StatusCode.OUT_OF_RANGE,
        "EVENT_NOT_YET",
        message,
        violations=[Violation(error.field, message)],
        metadata={"last_event": str(error.last)},
    )


def _too_slow(error: SlowReader) -> CallError:
    return CallError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SLOW_READER",
        f"events came faster than they were read: watch again with from_event {error.next_seq}",
        metadata={"from_event": str(error.next_seq)},
        retry_after=_SECOND // 10,
    )


_TRANSLATIONS: dict[type[Exception], _Translation] = {
    CallError: lambda error: error,
    RemovedRun: removed_run,
    Unavailable: _away,
    DatabaseFull: _no_room,
    StoreUnavailable: _store_away,
    Stopping: _stopping,
    Fenced: _stopping,
    Overloaded: _overloaded,
    Crowded: _crowded,
    Undecided: _undecided,
    OutputTooLarge: lambda _: exhausted(
        "OUTPUT_TOO_LARGE", "the output is too large for one message: get the items one by one"
    ),
    TooManyWatchers: lambda error: exhausted("TOO_MANY_WATCHERS", str(error), _SECOND),
    NotAccepted: _not_accepted,
    UnknownRun: lambda error: unknown_run(error.field),
    SetAside: lambda error: failed_precondition(
        "run_id",
        "RUN_SET_ASIDE",
        f"the run {uuid.UUID(bytes=error.run_id)} could not be made again from its journal: {error.why}. The"
        " coordinator's log says more; it is tried again by the janitor (`penstock janitor run`) and at the next start,"
        " perhaps of a newer release",
    ),
    UnknownStepRun: lambda _: not_found(
        "item",
        "UNKNOWN_STEP_RUN",
        "the mapped step has no such item, or not yet: `penstock get RUN STEP` (ListStepRuns) shows those that it has",
    ),
    UnknownVersion: lambda error: _no_version(error.pipeline, error.number),
    NotConnected: lambda _: failed_precondition("agent_id", "NOT_CONNECTED", "the agent is not connected"),
    EventNotYet: _not_yet,
    SlowReader: _too_slow,
    DecodeError: lambda _: CallError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_MESSAGE",
        "the bytes are no message of the method's request type: check that client and coordinator speak the same API,"
        " that texts are UTF-8, and that no value is nested deeper than 28 lists and objects",
    ),
}


def translate(error: Exception) -> CallError | None:
    """What the caller is told of an exception; None if nobody foresaw it."""
    found = next((_TRANSLATIONS[kind] for kind in type(error).__mro__ if kind in _TRANSLATIONS), None)
    return None if found is None else found(error)


def internal(error_id: str) -> CallError:
    return CallError(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        f"an error of the coordinator's own: its log tells more under {error_id}",
        metadata={"error_id": error_id},
    )


# --- on the wire ------------------------------------------------------------------------------------------------------


class WireStatus(NamedTuple):
    """The arguments of `ServicerContext.abort`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


class PassedBack(Exception):
    """Ends a call as another coordinator has ended it."""

    def __init__(self, status: WireStatus) -> None:
        super().__init__(status.details)
        self.status = status
        self.begun = False
        """Part of a stream was passed back before."""


def reason_of(status: WireStatus) -> str:
    """Of an error of ours; empty if it has none."""
    for key, value in status.trailing_metadata:
        if key == STATUS_KEY:
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return str(info.reason)
    return ""


def wire_status(error: CallError) -> WireStatus:
    """Cut to what fits into a call's trailing metadata."""
    message = clip(error.message, MESSAGE_BYTES)
    status = status_pb2.Status(code=error.code.value[0], message=message, details=[_packed(d) for d in _details(error)])
    return WireStatus(error.code, message, ((STATUS_KEY, status.SerializeToString()),))


def _details(error: CallError) -> Iterable[Message]:
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    if error.violations:
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=each.field, description=each.description)
                for each in _fitting(error.violations)
            ]
        )
    if error.retry_after is not None:
        # Spread, so that those who are told at once do not come back at once.
        seconds, rest = divmod(int(error.retry_after * random.uniform(1.0, 1.5)), _SECOND)  # noqa: S311
        yield error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds, nanos=rest * 1_000))


def _fitting(violations: tuple[Violation, ...]) -> Iterable[Violation]:
    left = VIOLATION_BYTES
    for number, each in enumerate(violations):
        cut = Violation(clip(each.field, 300), clip(each.description, 600))
        left -= len(cut.field.encode()) + len(cut.description.encode()) + 10
        if left < 0:
            yield Violation("", f"and {len(violations) - number} more; Validate tells all problems of a specification")
            return
        yield cut


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def clip(text: str, limit: int) -> str:
    """The text, or its beginning, so that it has at most `limit` bytes as gRPC writes messages (percent-encoded)."""
    text = text.encode("utf-8", "replace").decode()
    if len(text) * 12 <= limit or len(quote(text, safe=_UNQUOTED)) <= limit:
        return text
    used, kept = len(_CUT), 0
    for character in text:
        used += len(quote(character, safe=_UNQUOTED))
        if used > limit:
            break
        kept += 1
    return text[:kept] + _CUT


_CUT = "..."
_UNQUOTED = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))


def shown(value: Json) -> str:
    """A value of the caller's in a message: short, in quotes, printable."""
    return quoted(str(value))
