"""A board's entry as bytes, and a run's status as people read it: JSON, with lines by their names."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock_coordinator.core.dispatch.line_names import line_name, line_named
from penstock_coordinator.ports.board import BoardEntry, LineDemand, RunStatus

_COUNTS = ("ready", "running", "waiting", "completed", "failed", "total")
_json = msgspec.json.Encoder()


def encode_entry(entry: BoardEntry) -> bytes:
    return _json.encode(
        {
            "id": entry.coordinator_id,
            "epoch": entry.epoch,
            "live_runs": entry.live_runs,
            "relayed": entry.relayed,
            "lines": [(line_name(each.line), each.ready, each.running, each.oldest_wait) for each in entry.lines],
            "runs": {each.run_id.hex(): _status(each) for each in entry.runs},
        }
    )


def decode_entry(data: bytes) -> BoardEntry:
    """Raises `ValueError` for what no coordinator of this release writes."""
    try:
        found = msgspec.json.decode(data)
        return BoardEntry(
            str(found["id"]),
            int(found["epoch"]),
            int(found["live_runs"]),
            tuple(LineDemand(line_named(name), *map(int, counts)) for name, *counts in found["lines"]),
            tuple(_run(bytes.fromhex(key), status) for key, status in found["runs"].items()),
            int(found.get("relayed", 0)),  # the release before does not tell
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no entry of a board") from error


def encode_status(status: RunStatus) -> bytes:
    return _json.encode(_status(status))


def decode_status(run_id: bytes, data: bytes) -> RunStatus:
    """Raises `ValueError`."""
    try:
        return _run(run_id, msgspec.json.decode(data))
    except (KeyError, TypeError) as error:
        raise ValueError("no status of a run") from error


def _status(status: RunStatus) -> dict[str, Any]:
    counts = {name: getattr(status, name) for name in _COUNTS}
    return {"pipeline": status.pipeline, "state": status.state, **counts}


def _run(run_id: bytes, found: dict[str, Any]) -> RunStatus:
    return RunStatus(run_id, str(found["pipeline"]), str(found["state"]), *(int(found[name]) for name in _COUNTS))
