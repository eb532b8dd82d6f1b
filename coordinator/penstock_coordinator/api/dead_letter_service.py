"""penstock.v1.DeadLetterService."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from penstock.v1 import dead_letter_service_pb2 as pb
from penstock.v1.dead_letter_service_pb2_grpc import DeadLetterServiceServicer
from penstock_coordinator.api.dead_letter_fields import letter_filter, letter_id_of, letter_selection
from penstock_coordinator.api.encoding import dead_letters as encode
from penstock_coordinator.api.encoding import runs as encode_runs
from penstock_coordinator.api.errors import CallError, failed_precondition, invalid, not_found, request_id_reused
from penstock_coordinator.api.log_reader import LogQuery
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.api.request_ids import request_key
from penstock_coordinator.api.run_control import encoded, reason_of, requested_by_of
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.ports import LogFilter, Repeated
from penstock_coordinator.runtime.dead_letters import UnknownLetter
from penstock_coordinator.runtime.views import OutputTooLarge

if TYPE_CHECKING:
    from penstock.v1 import run_service_pb2
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.api.log_reader import LogReader
    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.runtime.dead_letters import ShownLetter
    from penstock_coordinator.runtime.engine import Engine

LOG_LINES = 20
MAX_LOG_LINES = 1_000


class DeadLetterService(DeadLetterServiceServicer):
    def __init__(self, engine: Engine, logs: LogReader, limits: Limits) -> None:
        self._engine = engine
        self._letters = engine.dead_letters
        self._logs = logs
        self._limits = limits

    async def List(self, request: pb.ListDeadLettersRequest, context: Context) -> pb.ListDeadLettersResponse:
        where = letter_filter(letter_selection(request.selection, "selection", self._limits), request.states)
        size, tokens = page_size(request.page_size), PageTokens(request, tuple[int, bytes, int])
        found = await self._letters.list_letters(where, size + 1, tokens.read(request.page_token))
        return pb.ListDeadLettersResponse(
            letters=[encode.letter(each) for each in found[:size]],
            next_page_token=tokens.write(found[size - 1].place) if len(found) > size else "",
        )

    async def Get(self, request: pb.GetDeadLetterRequest, context: Context) -> pb.GetDeadLetterResponse:
        run_id, seq = letter_id_of(request.id)
        if not 0 <= request.log_lines <= MAX_LOG_LINES:
            raise invalid("log_lines", f"must be between 0 (for {LOG_LINES}) and {MAX_LOG_LINES:,}")
        try:
            shown = await self._letters.show(run_id, seq)
        except UnknownLetter:
            raise _unknown() from None
        response = await self._response(shown)
        response.log_lines.extend(await self._lines(shown, request.log_lines or LOG_LINES))
        if response.ByteSize() > self._limits.message_bytes:
            raise OutputTooLarge
        return response

    async def _response(self, shown: ShownLetter) -> pb.GetDeadLetterResponse:
        response = pb.GetDeadLetterResponse(
            letter=encode.letter(shown.found),
            run=await encoded(shown.run),
            attempts=[encode_runs.attempt(each) for each in shown.attempts],
            inputs=encode.inputs(shown.inputs),
            inputs_problem=shown.inputs_problem,
            remedies=shown.remedies,
        )
        if shown.step_run is not None:
            message = encode_runs.step_run(shown.found.run_id, shown.run.plan, shown.step_run)
            encode_runs.describe_newest(message, shown.attempts)
            response.step_run.CopyFrom(message)
        return response

    async def _lines(self, shown: ShownLetter, count: int) -> list[run_service_pb2.LogLine]:
        """The last ones of the last attempt."""
        if shown.step_run is None or not shown.attempts:
            return []
        letter, run_id = shown.found.letter, shown.found.run_id
        where = LogFilter(letter.step, letter.item, shown.attempts[-1].number)
        lines: list[run_service_pb2.LogLine] = []
        async with aclosing(self._logs.tail(run_id, shown.run.plan, LogQuery(where, count))) as responses:
            async for response in responses:
                lines += response.lines
        return lines[-count:]

    async def Requeue(self, request: pb.RequeueDeadLetterRequest, context: Context) -> pb.RequeueDeadLetterResponse:
        run_id, seq = letter_id_of(request.id)
        reason, by = reason_of(request.reason), requested_by_of(request.requested_by)
        key = request_key("DeadLetterService.Requeue", request)
        try:
            done = await self._letters.requeue(run_id, seq, by, reason, key)
            found = await self._letters.get(run_id, seq)
        except UnknownLetter:
            raise _unknown() from None
        except NotPossible as refused:
            raise failed_precondition("id", "NOT_POSSIBLE", str(refused)) from None
        if isinstance(done, Repeated):
            raise request_id_reused()
        run = await encoded(await self._engine.run(run_id))
        return pb.RequeueDeadLetterResponse(letter=encode.letter(found), run=run, reset_steps=done.reset)

    async def Purge(self, request: pb.PurgeDeadLetterRequest, context: Context) -> pb.PurgeDeadLetterResponse:
        run_id, seq = letter_id_of(request.id)
        try:
            found = await self._letters.purge(run_id, seq, requested_by_of(request.requested_by))
        except UnknownLetter:
            raise _unknown() from None
        return pb.PurgeDeadLetterResponse(letter=encode.letter(found))


def _unknown() -> CallError:
    return not_found(
        "id",
        "UNKNOWN_DEAD_LETTER",
        "there is no such dead letter, or it went with its run: `penstock dead-letters list` (List) names those that"
        " there are",
    )
