"""A batch of records as the arrays that the commit statement takes. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from penstock_coordinator.adapters.postgres.requests import packed
from penstock_coordinator.ports import PLAIN_ORIGIN, Origin, Parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock_coordinator.ports import NewRun, Record, RunId

Columns = list[list[Any]]
NO_GATE = b""

_pack_pairs = msgspec.msgpack.Encoder().encode
_unpack_pairs = msgspec.msgpack.Decoder(tuple[tuple[bytes, bytes], ...]).decode


def is_plain(records: Sequence[Record]) -> bool:
    """Nothing in the batch needs more than the one statement: no run key, no new generation, and no rows but those of
    runs, step runs and attempts. Asked of every record, so in one pass."""
    for record in records:
        if record.claim is not None or record.letters or record.closings:
            return False
        if record.entries or record.answered or record.artifacts or record.charge is not None:
            return False
        if record.new_run is not None and record.new_run.uses:
            return False
        if record.change is not None and record.change.generation is not None:
            return False
    return True


def holds(records: Sequence[Record]) -> tuple[bool, bool, bool]:
    """Whether the batch has new runs or requests, changes of runs, and step runs or attempts."""
    starts = changes = steps = False
    for record in records:
        starts = starts or record.new_run is not None or record.request is not None
        changes = changes or record.change is not None
        steps = steps or bool(record.step_runs or record.attempts)
    return starts, changes, steps


def is_one_part(records: Sequence[Record]) -> bool:
    """Whether `parts` has nothing to cut; what makes a part needs a request or a run key."""
    asking = any(record.request is not None or record.claim is not None for record in records)
    return not asking or len(parts(records)) == 1


def parts(records: Sequence[Record]) -> list[list[int]]:
    """The positions of the records, cut where one statement could not tell what was stored: a request or a run key
    twice, or a request that comes after other records of its run. Nearly always one part."""
    done: list[list[int]] = [[]]
    requests: set[bytes] = set()
    runs: set[RunId] = set()
    run_keys: set[tuple[str, str]] = set()
    for position, record in enumerate(records):
        if record.claim is not None:
            run_key = (record.claim.pipeline, record.claim.run_key)
            if run_key in run_keys:
                done.append([])
                requests, runs, run_keys = set(), set(), set()
            run_keys.add(run_key)
        if record.request is not None:
            key = packed(record.request.key)
            if key in requests or record.run_id in runs:
                done.append([])
                requests, runs, run_keys = set(), set(), set()
            requests.add(key)
        runs.add(record.run_id)
        done[-1].append(position)
    return done


def gates(records: Sequence[Record]) -> list[bytes]:
    """For each record the key of the request that it depends on: its own, or that of the record of its run before."""
    gate_of: dict[RunId, bytes] = {}
    for record in records:
        if record.request is not None:
            gate_of[record.run_id] = packed(record.request.key)
    return [gate_of.get(record.run_id, NO_GATE) for record in records]


def event_columns(records: Sequence[Record]) -> Columns:
    return [
        [r.run_id for r in records],
        [r.first_seq for r in records],
        [r.last_seq for r in records],
        [r.at for r in records],
        [r.payload for r in records],
    ]


def step_columns(records: Sequence[Record], gate: Sequence[bytes]) -> tuple[Columns, list[bytes]]:
    """The columns, and the gate of each row."""
    rows = [
        (
            *(r.run_id, s.step, s.item, s.generation, s.state, s.attempts),
            *(s.ready_time, s.start_time, s.end_time, s.agent, s.output, s.failure),
        )
        for r in records
        for s in r.step_runs
    ]
    return _columns(rows, 12), [g for r, g in zip(records, gate, strict=True) for _ in r.step_runs]


def attempt_columns(records: Sequence[Record], gate: Sequence[bytes]) -> tuple[Columns, list[bytes]]:
    rows = [
        (r.run_id, a.step, a.item, a.number, a.token, a.outcome, a.start_time, a.end_time, a.agent, a.detail)
        for r in records
        for a in r.attempts
    ]
    return _columns(rows, 10), [g for r, g in zip(records, gate, strict=True) for _ in r.attempts]


def request_columns(records: Sequence[Record]) -> Columns:
    """By key: two lanes that store the same requests at once wait for each other in one order."""
    rows = sorted(
        (packed(r.request.key), r.request.key.digest, r.request.answer, r.run_id, r.at, *newest(r))
        for r in records
        if r.request is not None
    )
    return _columns(rows, 7)


def newest(record: Record) -> tuple[str | None, int | None]:
    """The pipeline, and the number that must be that of its newest version; nothing if it may be any."""
    new = record.new_run
    return (new.pipeline, new.version_number) if new is not None and new.only_if_newest else (None, None)


def new_run_row(run_id: RunId, new: NewRun) -> list[Any]:
    """The values of the run's row, in the order of the statements."""
    return [
        *(run_id, new.pipeline, new.version_number, new.version_digest, new.owner),
        *(new.state, new.create_time, new.start_time, new.end_time, array_literal(new.labels)),
        *(packed_text(new.reason), packed_pairs(new.trace_context), new.parameters, new.summary, new.output),
        *(None if new.origin.parent is None else new.origin.parent.run_id, new.origin.run_key),
        packed_origin(new.origin),
    ]


class _RunRows:
    """The runs' rows that a batch brings or changes, one per run: a statement cannot change what it brings."""

    def __init__(self) -> None:
        self.new: dict[RunId, list[Any]] = {}
        self.changed: dict[RunId, list[Any]] = {}

    def add(self, record: Record, gate: bytes) -> None:
        if (new := record.new_run) is not None:
            self.new[record.run_id] = [*new_run_row(record.run_id, new), gate]
        if (change := record.change) is None:
            return
        reason = None if change.reason is None else packed_text(change.reason)
        values = (change.state, reason, change.start_time, change.end_time, change.summary, change.output)
        if record.run_id in self.new:
            _merge(self.new[record.run_id], (5, 10, 7, 8, 13, 14), values)
            return
        more = (change.generation, change.version_number, change.version_digest, change.parameters)
        row = self.changed.get(record.run_id)
        if row is None:
            self.changed[record.run_id] = [record.run_id, *values, *more, gate]
            return
        if change.generation is not None:
            row[4:7] = None, None, None
        _merge(row, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10), (*values, *more))


def _merge(row: list[Any], places: tuple[int, ...], values: tuple[Any, ...]) -> None:
    for place, value in zip(places, values, strict=True):
        if value is not None:
            row[place] = value


def run_columns(records: Sequence[Record], gate: Sequence[bytes]) -> tuple[Columns, Columns]:
    """The new rows and the changes, each with its gate as the last column."""
    rows = _RunRows()
    for record, its_gate in zip(records, gate, strict=True):
        if record.new_run is not None or record.change is not None:
            rows.add(record, its_gate)
    return _columns(list(rows.new.values()), 19), _columns(list(rows.changed.values()), 12)


def _columns(rows: Sequence[Sequence[Any]], width: int) -> Columns:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


# --- user data ---


def packed_text(text: str) -> bytes:
    """Any text, also such as PostgreSQL's text refuses."""
    return text.encode("utf-8", "surrogatepass")


def unpacked_text(packed_value: bytes) -> str:
    return packed_value.decode("utf-8", "surrogatepass")


def packed_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    return _pack_pairs([(packed_text(key), packed_text(value)) for key, value in pairs])


def unpacked_pairs(packed_value: bytes) -> tuple[tuple[str, str], ...]:
    return tuple((unpacked_text(key), unpacked_text(value)) for key, value in _unpack_pairs(packed_value))


class _Origin(msgspec.Struct, array_like=True):
    """What of an origin is searched by has columns of its own."""

    priority: int = 0
    weight: float = 1.0
    parent_step: int = 0
    parent_item: int = 0
    depth: int = 0
    cache: int = 1


_pack_origin = msgspec.msgpack.Encoder().encode
_unpack_origin = msgspec.msgpack.Decoder(_Origin).decode


def packed_origin(origin: Origin) -> bytes:
    if origin == PLAIN_ORIGIN:
        return b""
    step, item = (origin.parent.step, origin.parent.item) if origin.parent is not None else (0, 0)
    return _pack_origin(_Origin(origin.priority, origin.weight, step, item, origin.depth, origin.cache))


def unpacked_origin(parent_run_id: RunId | None, run_key: str, packed_value: bytes) -> Origin:
    if not packed_value and parent_run_id is None and not run_key:
        return PLAIN_ORIGIN
    found = _unpack_origin(packed_value) if packed_value else _Origin()
    parent = None if parent_run_id is None else Parent(parent_run_id, found.parent_step, found.parent_item)
    return Origin(found.priority, found.weight, run_key, parent, found.depth, found.cache)


def label_terms(labels: Iterable[tuple[str, str]]) -> list[str]:
    """Label keys hold no "="."""
    return [f"{key}={value}" for key, value in labels]


def labels_of(terms: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, _, value in (term.partition("=") for term in terms))


def array_literal(labels: Iterable[tuple[str, str]]) -> str:
    """PostgreSQL's notation of a text array: an array of arrays of different lengths is no array."""
    return array_text(label_terms(labels))


def array_text(terms: Iterable[str]) -> str:
    quoted = ('"' + term.replace("\\", "\\\\").replace('"', '\\"') + '"' for term in terms)
    return "{" + ",".join(quoted) + "}"
