"""The agent's own log, on standard error: a JSON object per line, or plain lines in a terminal."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from penstock_agent.log_levels import read_levels

_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+(?=@)")
"""In an address: of an index of packages, of a store, of whatever libraries put into their errors."""
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def masked(text: str) -> str:
    """The text without passwords of addresses in it."""
    return _PASSWORD.sub(r"\g<before>********", text) if "://" in text else text


class ConsoleFormatter(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """What is passed as `extra` becomes members of the object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _KNOWN})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return masked(json.dumps(line, ensure_ascii=False, default=str))


def set_up(form: str, level: str) -> None:
    """`form`: json, console, or auto (console in a terminal). `level` as the setting has it. Raises `ValueError`."""
    levels = read_levels(level)
    handler = logging.StreamHandler(sys.stderr)
    plain = form == "console" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(
        ConsoleFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S") if plain else JsonFormatter()
    )
    logging.basicConfig(handlers=[handler], level=levels.least.upper(), force=True)
    for name, own in levels.of.items():
        logging.getLogger(name).setLevel(own.upper())
