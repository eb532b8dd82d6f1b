"""What is told of an exception that a step raised."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

from penstock_agent.executors.channel import Failure

LONGEST_MESSAGE = 8 * 1024
LONGEST_TRACEBACK = 32 * 1024
LONGEST_NAME = 500
MOST_BASES = 16

_OWN_FILES = (str(Path(__file__).parent), "<frozen importlib", "<frozen runpy")
_OWN_MODULES = frozenset({"penstock.authoring.steps"})
"""Of the SDK: a decorated function is called through it."""


class StepStopped(BaseException):
    """Raised in a step that is to end: `finally` blocks run, ordinary `except` clauses do not catch it."""


def failure_of(
    error: BaseException, reason: str, hidden_prefix: str = "", hide: Callable[[str], str] = lambda text: text
) -> Failure:
    """`hidden_prefix` is cut from paths in the trace; `hide` masks what nobody may read, before anything is cut."""
    trace = hide(_trace(error))
    return Failure(
        reason=reason,
        message=_cut(hide(_message(error)), LONGEST_MESSAGE),
        error_class=_class_name(type(error)),
        error_bases=[_class_name(base) for base in type(error).__mro__[1:] if base is not object][:MOST_BASES],
        traceback=_cut(trace.replace(hidden_prefix, "") if hidden_prefix else trace, LONGEST_TRACEBACK),
    )


def reason_of(error: BaseException) -> str:
    return "OutOfMemory" if isinstance(error, MemoryError) else "UserError"


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as broken:
        text = f"(its text cannot be had: {type(broken).__name__})"
    if isinstance(error, SystemExit):
        return f"the step called sys.exit({text}); return or raise instead"
    return text


def _class_name(cls: type) -> str:
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return _cut(name, LONGEST_NAME)


def _trace(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, _user_frames(error.__traceback__))
    except Exception as broken:
        return f"(no trace: {type(broken).__name__})"
    return "".join(lines)


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and _is_own(trace.tb_frame):
        trace = trace.tb_next
    return trace


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OWN_FILES) or frame.f_globals.get("__name__") in _OWN_MODULES


def _cut(text: str, limit: int) -> str:
    """The beginning and the end of a text that is too long; always valid UTF-8 of at most `limit` bytes."""
    data = text.encode(errors="backslashreplace")
    if len(data) > limit:
        half = (limit - 40) // 2
        data = data[:half] + b"\n... (cut) ...\n" + data[-half:]
    return data.decode(errors="ignore")
