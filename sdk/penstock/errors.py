"""Every error that the SDK raises on purpose. All are `PenstockError`; nothing here imports gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.v1 import run_pb2


class PenstockError(Exception):
    """The base of all errors of Penstock.

    `field` names what is wrong (a path such as ``steps[2].retry.max_attempts``, or ""), `remedy` says how to
    mend it (or ""). `location` is "file:line" of the user's code where that is known (or "").
    """

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy
        self.location = ""

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.location, self.field, self.message) if part)
        return f"{text} ({self.remedy})" if self.remedy else text


class DefinitionError(PenstockError):
    """A pipeline or a step is described in a way that cannot hold."""


class ReferenceUseError(DefinitionError):
    """The value of a reference was needed while the pipeline was built, when no step has run yet."""


class YamlError(DefinitionError):
    """A YAML document is malformed or describes no pipeline. `line` and `column` count from 1; 0: not known."""

    def __init__(self, message: str, *, field: str = "", remedy: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.line = line
        self.column = column

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.location, self._place(), self.field, self.message) if part)
        return f"{text} ({self.remedy})" if self.remedy else text

    def _place(self) -> str:
        if not self.line:
            return ""
        return f"line {self.line}" + (f", column {self.column}" if self.column else "")


class ArtifactError(PenstockError):
    """An artifact is described in a way that cannot hold, or cannot be written or read."""


class BundleError(PenstockError):
    """The source tree cannot be made into a code bundle."""


class LoadError(PenstockError):
    """A pipeline file cannot be loaded. `user_traceback` holds the user's own frames, or ""."""

    def __init__(self, message: str, *, field: str = "", remedy: str = "", user_traceback: str = "") -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.user_traceback = user_traceback


class SettingsError(PenstockError):
    """A setting, from the environment or from the configuration file, does not hold."""


class ParameterError(PenstockError):
    """A value given for a parameter cannot be sent, or does not fit the parameter's type."""


class ContextError(PenstockError):
    """Something was asked of the running attempt where there is none."""


class WaitTimeoutError(PenstockError, TimeoutError):
    """The run was not at rest in time. The run goes on."""


class StepNotCompletedError(PenstockError):
    """A result was asked for of a step run that is not COMPLETED. `state` is its state's name."""

    def __init__(self, message: str, *, state: str, failure: run_pb2.Failure | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.state = state
        self.failure = failure


class RunFailedError(PenstockError):
    """The run is at rest and not COMPLETED. `run` is the run as it ended."""

    def __init__(self, message: str, run: run_pb2.Run) -> None:
        super().__init__(message)
        self.run = run


class RunCancelledError(RunFailedError):
    """The run is at rest as CANCELLED."""


class ServiceError(PenstockError):
    """The coordinator refused a call, or could not be reached.

    `code` is the canonical gRPC code's name, `reason` and `metadata` are those of google.rpc.ErrorInfo, and
    `violations` are the (field, description) pairs of google.rpc.BadRequest or PreconditionFailure.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        metadata: dict[str, str] | None = None,
        violations: Sequence[tuple[str, str]] = (),
        retry_after: float | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code
        self.reason = reason
        self.metadata = metadata or {}
        self.violations = list(violations)
        self.retry_after = retry_after

    def __str__(self) -> str:
        text = super().__str__()
        new = [f"{field}: {description}" for field, description in self.violations if description not in text]
        return "; ".join([text, *new])


class NotFoundError(ServiceError):
    """There is no such pipeline, version, run, step, item, bundle or agent."""


class InvalidArgumentError(ServiceError):
    """What was sent does not hold. `violations` lists every field with the remedy."""


class AlreadyExistsError(ServiceError):
    """The request id was used before with other content."""


class FailedPreconditionError(ServiceError):
    """The state of what was named does not allow the call."""


class OutOfRangeError(ServiceError):
    """An event was asked for that is not there yet."""


class UnavailableError(ServiceError):
    """The coordinator could not be reached within the deadline."""


class DeadlineExceededError(ServiceError):
    """The coordinator did not answer within the deadline."""


class ResourceExhaustedError(ServiceError):
    """A limit is reached. `retry_after`: seconds after which another try makes sense, or None."""


class PermissionDeniedError(ServiceError):
    """The API key may not do this."""


class UnauthenticatedError(ServiceError):
    """No API key, or one that is not known."""


class UnimplementedError(ServiceError):
    """The coordinator is of a version that does not know the call."""


class InternalError(ServiceError):
    """The coordinator failed in a way that it does not explain. Its log does, by the id in the message."""
