"""The agent's own log, on standard error: a JSON object per line, or lines for people.

As in the coordinator's, messages are names of what happened ("inputs_not_fetched"), all else is a field, and what
connects lines has the same name everywhere: run, step, item, attempt, agent, session, trace. It is written by the
standard library alone: what the coordinator uses would make every agent larger by 6 MB.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from penstock_agent.log_levels import read_levels
from penstock_agent.log_masking import masked

_FIELDS = "penstock_fields"
_HANDLE = "handle"
_NOISY = ("asyncio", "grpc")
"""They say nothing below info, unless they are named."""
_CALLERS = 3
"""Between who says something and the library: `OwnLog` itself."""


class Correlation:
    """What every line of this process is told of besides its own fields."""

    agent: str = ""
    session: int = 0
    """Of the stream that is connected; 0: none is."""
    attempt_of: Callable[[int], Mapping[str, object]] | None = None
    """Which attempt a handle stands for, by run, step, item, attempt and trace. None: nobody knows."""


class OwnLog:
    """Of one module: `log.info("connected", coordinator=name)`. A field `handle` is written as the attempt that it
    stands for. What is not of the level that is asked for costs a look at it."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        self._say(logging.DEBUG, event, None, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._say(logging.INFO, event, None, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._say(logging.WARNING, event, None, fields)

    def error(self, event: str, /, exc_info: BaseException | None = None, **fields: object) -> None:
        self._say(logging.ERROR, event, exc_info, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """With the error that is being handled."""
        self._say(logging.ERROR, event, sys.exception(), fields)

    @property
    def tells_all(self) -> bool:
        """Whether lines of the level debug are written."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def _say(self, level: int, event: str, error: BaseException | None, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, exc_info=error, extra={_FIELDS: fields}, stacklevel=_CALLERS)


def _entry(record: logging.LogRecord) -> dict[str, object]:
    """The line as fields: of our own events, and of what libraries say."""
    entry: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    fields: dict[str, Any] = dict(getattr(record, _FIELDS, {}))
    handle = fields.pop(_HANDLE, None)
    if handle is not None and Correlation.attempt_of is not None:
        entry.update(Correlation.attempt_of(handle))
    entry.update(fields)
    if Correlation.agent:
        entry.setdefault("agent", Correlation.agent)
    if Correlation.session:
        entry.setdefault("session", Correlation.session)
    return entry


class JsonFormatter(logging.Formatter):
    """An object per line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = _entry(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return masked(json.dumps(entry, ensure_ascii=False, default=str))


class ConsoleFormatter(logging.Formatter):
    """For people: what happened first, then what is known of it."""

    def format(self, record: logging.LogRecord) -> str:
        entry = _entry(record)
        time, level, logger, event = (entry.pop(name) for name in ("time", "level", "logger", "event"))
        told = " ".join(f"{name}={_spelled(value)}" for name, value in entry.items())
        line = f"{time} [{level:<8}] {event:<30} [{logger}] {told}".rstrip()
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return masked(line)


def _spelled(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(each.isspace() for each in text) else text


def set_up(form: str, level: str) -> None:
    """`form`: json, console, or auto (console in a terminal). `level` as the setting has it. Raises `ValueError`."""
    levels = read_levels(level)
    quiet = {name: "info" for name in _NOISY if levels.least == "debug"} | levels.of
    handler = logging.StreamHandler(sys.stderr)
    plain = form == "console" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(ConsoleFormatter() if plain else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=levels.least.upper(), force=True)
    for name, own in quiet.items():
        logging.getLogger(name).setLevel(own.upper())
    logging.captureWarnings(True)
