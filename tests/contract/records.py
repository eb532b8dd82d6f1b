"""Records and rows to store."""

from __future__ import annotations

import itertools

import msgspec

from penstock_coordinator.ports import (
    ArtifactRow,
    AttemptRow,
    LetterRow,
    NewRun,
    Record,
    RequestKey,
    RequestRow,
    RunId,
    StepRunRow,
    UseRow,
    WorkRow,
)

_numbers = itertools.count(1)
_MILLISECONDS = 1_795_000_000_000


def new_run_id() -> RunId:
    """A UUIDv7, each later than the ones before."""
    number = next(_numbers)
    return (_MILLISECONDS + number).to_bytes(6, "big") + b"\x70\x00\x80\x00" + number.to_bytes(6, "big")


def record(run_id: RunId, first_seq: int, last_seq: int | None = None, payload: bytes = b"payload") -> Record:
    return Record(run_id, first_seq, first_seq if last_seq is None else last_seq, payload, at=1_000 + first_seq)


def new_run(
    pipeline: str = "etl",
    owner: str = "c1",
    state: int = 1,
    labels: tuple[tuple[str, str], ...] = (),
    create_time: int = 1_000,
) -> NewRun:
    return NewRun(
        pipeline=pipeline,
        version_number=3,
        version_digest="sha256:abc",
        parameters=b'{"n": 1}',
        labels=labels,
        trace_context=(("traceparent", "00-1-2-01"),),
        create_time=create_time,
        owner=owner,
        state=state,
    )


def start(run_id: RunId, *, request: RequestRow | None = None, last_seq: int = 2, new: NewRun | None = None) -> Record:
    """The first record of a run."""
    return Record(run_id, 1, last_seq, b"started", 1_000, new_run=new or new_run(), request=request)


def request(
    request_id: str = "r1", *, answer: bytes = b"answer", digest: bytes = b"content", method: str = "StartRun"
) -> RequestRow:
    return RequestRow(RequestKey("", method, request_id, digest), answer)


def step_run(
    step: int, item: int = -1, *, generation: int = 1, state: int = 5, output: bytes | None = b"1", agent: str = "a1"
) -> StepRunRow:
    return StepRunRow(step, item, generation, state, 1, output, None, agent, 10, 20, 30)


def attempt(step: int, item: int = -1, *, number: int = 1, token: int = 7, agent: str = "a1") -> AttemptRow:
    return AttemptRow(step, item, number, token, 1, agent, 20, 30, b"detail")


def letter(seq: int, step: int = 0, item: int = -1, **given: object) -> LetterRow:
    name = "load" if item == -1 else f"load[{item}]"
    row = LetterRow(seq, step, item, 1, 1, 2, 1_000 + seq, "etl", "load", name, "UserError", "boom \0 \ud800")
    return msgspec.structs.replace(row, **given)


_DIGEST = "sha256:" + "0" * 64


def _work(step: int) -> WorkRow:
    return WorkRow(step, -1, 1, 1, 7, "etl", "sha256:abc", "load", "load", "")


def artifact(seq: int, step: int = 0) -> ArtifactRow:
    return ArtifactRow(seq, 0, 1_000 + seq, _work(step), "data", _DIGEST, 5, "text/csv", "file", "", b"")


def artifact_use(step: int) -> UseRow:
    return UseRow(1_000, _work(step), "x", _DIGEST)
