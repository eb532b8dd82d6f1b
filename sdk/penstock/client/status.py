"""From the status of a failed call to a typed error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # the package has no stubs
from grpc_status import rpc_status

from penstock import errors

if TYPE_CHECKING:
    from google.rpc import status_pb2
    from grpc.aio import AioRpcError

_CLASSES: dict[grpc.StatusCode, type[errors.ServiceError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPreconditionError,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRangeError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
    grpc.StatusCode.INTERNAL: errors.InternalError,
}

_TOO_LARGE = re.compile(r"(Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")

_REFUSED_STREAM = re.compile(r"RST_STREAM\b.*\berror code 7\b")
"""REFUSED_STREAM of HTTP/2: nothing of the call was done."""

_REMEDIES: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAUTHENTICATED: "set PENSTOCK_API_KEY",
}


def typed_error(error: AioRpcError, address: str) -> errors.ServiceError:
    code = error.code()
    details = _Details(_status(error))
    message = error.details() or code.name
    remedy = _REMEDIES.get(code, "")
    if code is grpc.StatusCode.UNAVAILABLE and not details.reason:
        message, remedy = _unavailable(message, address)
    oversize = None if details.reason else _oversize(message)
    if oversize is not None:
        message, remedy = oversize
    return _CLASSES.get(code, errors.ServiceError)(
        message,
        code=code.name,
        reason=details.reason,
        metadata=details.metadata,
        violations=details.violations,
        retry_after=details.retry_after,
        remedy=remedy,
    )


def _unavailable(message: str, address: str) -> tuple[str, str]:
    """What gRPC itself says of a call that did not come through, in words, and the remedy."""
    if _REFUSED_STREAM.search(message):
        return (
            f"the connection to {address} has more calls under way than it may, 1,000: this one was not begun",
            "repeat it, or make fewer calls at once",
        )
    return (
        f"no coordinator answers at {address.replace(',', ' or ')}",
        "start one with `penstock dev` or `penstock server`, or set --address or PENSTOCK_ADDRESS",
    )


def _oversize(message: str) -> tuple[str, str] | None:
    """What gRPC itself says of a message past its limit, in words, and the remedy."""
    found = _TOO_LARGE.search(message)
    if found is None:
        return None
    size = f"{int(found[2]):,} bytes, past the limit of {int(found[3]):,} bytes of PENSTOCK_MAX_MESSAGE_SIZE"
    if message.startswith("CLIENT: Received"):
        return f"the answer has {size}", "ask for less at once"
    return f"the request has {size}", "split it, or keep large values in files or a store and pass their names"


def retry_after(error: AioRpcError) -> float | None:
    """Seconds of google.rpc.RetryInfo; None without one."""
    return _Details(_status(error)).retry_after


def refusal_of(error: AioRpcError) -> tuple[str, str]:
    """The reason of google.rpc.ErrorInfo, and the address that it names; empty if there is none."""
    details = _Details(_status(error))
    return details.reason, details.metadata.get("address", "")


def _status(error: AioRpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads code, details and metadata only
    except ValueError:  # the details contradict the code: what is left is the code
        return None


class _Details:
    """What the details of google.rpc.Status say; all are optional."""

    def __init__(self, status: status_pb2.Status | None) -> None:
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.violations: list[tuple[str, str]] = []
        self.retry_after: float | None = None
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        precondition, retry = error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo()
        for detail in status.details if status else ():
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                self.violations += [(each.field, each.description) for each in bad.field_violations]
            elif detail.Unpack(precondition):
                self.violations += [(each.subject, each.description) for each in precondition.violations]
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
