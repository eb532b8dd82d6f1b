"""This process's own log: one JSON object per line, or coloured lines for people.

Messages are names of what happened ("run_recovered"), everything else is a field. Fields that connect messages have
the same name everywhere: run, step, item, attempt, session, agent, trace.
"""

from __future__ import annotations

import logging
import sys
import uuid
from typing import TYPE_CHECKING, Literal, TextIO

import structlog

from penstock_coordinator.log_levels import read_levels
from penstock_coordinator.log_masking import masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger

_NOISY = {
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
    # Per call many lines, and some of them with its signature, by which others could repeat it.
    **dict.fromkeys(("aiobotocore", "botocore", "urllib3", "grpc"), logging.INFO),
}
"""The least of what they say, unless they are named."""
_NOT_MAPPED = -1


class TraceNames:
    """Which trace a run is part of, asked of whoever knows the runs of this process."""

    of: Callable[[bytes], str] | None = None
    """Empty text: it does not know the run. None: nobody knows any."""


def name_traces(trace_of: Callable[[bytes], str] | None) -> None:
    """From now on lines that concern a run that is known to this process also name its trace. None: it knows none."""
    TraceNames.of = trace_of


def configure_logging(
    level: str = "info", form: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None
) -> None:
    """Send everything that this process and its libraries say to the stream (standard error). May be called again.

    `level` as the setting has it, also for single loggers; raises `ValueError` where it is none.
    """
    levels = read_levels(level)
    stream = sys.stderr if stream is None else stream
    console = form == "console" or (form == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(console, colours=stream.isatty()))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(levels.least.upper())
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    for name, own in levels.of.items():
        logging.getLogger(name).setLevel(own.upper())
    logging.captureWarnings(True)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        spell_correlation,
    ]


def _formatter(console: bool, colours: bool) -> logging.Formatter:
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # Traces as plain text, for people too: what is drawn and wrapped first cannot be searched for passwords.
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    if console:
        plain = structlog.dev.plain_traceback
        last.append(structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="time", exception_formatter=plain))
    else:
        last.append(structlog.processors.JSONRenderer(default=str))
    # The line as a whole: what a value holds, or an error that is a value, is text only now.
    last.append(lambda _logger, _method, line: masked(str(line)))
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_shared(), processors=last)


def spell_correlation(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Run ids as clients write them, with their traces, and no item for a step that is not mapped."""
    run = event.get("run")
    if isinstance(run, bytes) and len(run) == 16:
        event["run"] = str(uuid.UUID(bytes=run))
    elif isinstance(run, str) and len(run) == 32:
        event["run"] = _dashed(run)
    if run and "trace" not in event and (trace := _traced(event["run"])):
        event["trace"] = trace
    if event.get("item") == _NOT_MAPPED:
        del event["item"]
    return event


def _traced(run: object) -> str:
    try:
        return "" if TraceNames.of is None else TraceNames.of(uuid.UUID(str(run)).bytes)
    except ValueError:
        return ""


def _dashed(text: str) -> str:
    try:
        return str(uuid.UUID(hex=text))
    except ValueError:
        return text
