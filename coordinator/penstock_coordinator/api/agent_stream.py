"""The edge of the agents' stream: reads words, hands them to the fleet and the runs, writes what is gathered.

One task reads and handles, one task writes; the handler itself only waits for the end. A read is never cancelled and
never given a timeout, because both break the stream without a word: whoever wants it to end sets `closed`, the handler
returns, and the transport ends the read.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from typing import TYPE_CHECKING, Any

import grpc
import msgspec
import structlog
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.api.agent_pen import Pen
from penstock_coordinator.api.artifact_fields import made_artifacts
from penstock_coordinator.api.errors import CallError, wire_status
from penstock_coordinator.api.forwarding import HOP
from penstock_coordinator.core.plan.references import BadReference, may_refer
from penstock_coordinator.core.run.events import Failure, MadeArtifact, Outcome
from penstock_coordinator.core.run.messages import AttemptEnded, AttemptReport, AttemptTiming
from penstock_coordinator.core.run.retrying import OUT_OF_MEMORY
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.hello import IdInUse, StaleCoordinator, Superseded, UnsupportedProtocol
from penstock_coordinator.runtime.largest import most_memory
from penstock_coordinator.runtime.session import Acknowledgement, AgentSession, goaway, lease_key, microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.duration_pb2 import Duration

    from penstock_coordinator.runtime.fleet import Fleet
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

HELLO_SECONDS = 5.0
FAREWELL_SECONDS = 1.0
"""How long the last words may take to be written."""
FAILURE_BYTES = 8 * 1024
RUN_ID_BYTES = 16
MOST_NAME = 128
"""Characters of a coordinator's id."""
LONGEST_SPAN = 100 * 366 * 24 * 3_600 * 1_000_000
"""Microseconds."""

_decode_json = msgspec.json.Decoder().decode

_OUTCOMES = {
    wire.RESULT_STATUS_FAILED: Outcome.FAILED,
    wire.RESULT_STATUS_CANCELLED: Outcome.CANCELLED,
    wire.RESULT_STATUS_TIMED_OUT: Outcome.TIMED_OUT,
    wire.RESULT_STATUS_LEASE_EXPIRED: Outcome.LOST,
}


class MalformedWord(Exception):
    """The agent said something that the protocol does not allow. The stream ends."""


class AgentStream:
    """One connection of an agent, from its Hello to its end."""

    def __init__(
        self,
        supervisor: Supervisor,
        context: grpc.aio.ServicerContext[Any, Any],
        on_printed: Callable[[wire.StepResult], None] = lambda result: None,
    ) -> None:
        """`on_printed` hears of results of attempts that printed something, before anybody else does."""
        self._on_printed = on_printed
        self._supervisor = supervisor
        self._fleet: Fleet = supervisor.fleet
        self._context = context
        self._session: AgentSession | None = None
        self._expected_seq = 1
        self._left = False
        self._opened = asyncio.Event()
        self._over = asyncio.Event()
        self._refusal: CallError | None = None

    async def serve(self) -> None:
        """Returns, or aborts the call, when the stream has ended. Leases outlive it."""
        reader = asyncio.create_task(self._read_all())
        writer: asyncio.Task[None] | None = None
        hello = asyncio.get_running_loop().call_later(HELLO_SECONDS, self._no_hello)
        try:
            await _first_of(reader, self._opened, self._over)
            hello.cancel()
            if self._session is not None:
                writer = asyncio.create_task(self._write_all(self._session))
                await _first_of(reader, self._over, self._session.closed)
        finally:
            hello.cancel()
            self._leave()
            await self._finish(writer)
        await self._record_goodbye()
        if self._refusal is not None:
            # With details: whoever passes the stream on tells it from the transport's own word by them.
            await self._context.abort(*wire_status(self._refusal))

    def _leave(self) -> None:
        self._left = True
        # Whoever still reads hears of the end as of an error of the call's: it is none.
        self._over.set()
        session = self._session
        if session is not None and not session.said_goodbye:
            self._fleet.stream_ended(session)
            log.info("session_ended", agent=session.holder.agent, session=session.holder.committed)

    async def _record_goodbye(self) -> None:
        """That the agent is gone and not lost is for people alone: it may be missed."""
        session = self._session
        if session is not None and session.said_goodbye and not self._fleet.head_epoch:
            with contextlib.suppress(Unavailable):
                # The agent may end the call at once, which cancels this one, and not what it waits for.
                await asyncio.shield(
                    self._supervisor.stores.agents.close_session(session.holder.agent, session.holder.committed)
                )

    async def _finish(self, writer: asyncio.Task[None] | None) -> None:
        """Give the writer a moment for what is gathered, a Goaway for example."""
        if writer is None:
            return
        await asyncio.wait({writer}, timeout=FAREWELL_SECONDS)
        if not writer.done():
            writer.cancel()

    def _no_hello(self) -> None:
        if self._session is None:
            self._refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "NO_HELLO", "no Hello came within 5 s")

    def _refuse(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        self._refusal = CallError(code, reason, message)
        self._over.set()

    async def _turn_away(self, error: UnsupportedProtocol | StaleCoordinator) -> None:
        """In place of Welcome. An agent that does not know this word here reads the status."""
        log.warning("agent_turned_away", reason=error.reason, message=str(error))
        with contextlib.suppress(Exception):  # the agent may be gone, which is told in many ways
            await self._context.write(wire.CoordinatorMessage(seq=1, goaway=goaway(error.reason, str(error))))
        self._refuse(grpc.StatusCode.FAILED_PRECONDITION, error.reason.upper(), str(error))

    # --- reading

    async def _read_all(self) -> None:
        try:
            while not self._over.is_set():
                message = await self._context.read()
                if message is grpc.aio.EOF:
                    return
                await self._handle(message)
        except MalformedWord as error:
            self._refuse(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE", str(error))
        except (DecodeError, CallError):
            return  # what guards all calls has seen it, and answers
        except (UnsupportedProtocol, StaleCoordinator) as error:
            await self._turn_away(error)
        except IdInUse as error:
            self._refuse(grpc.StatusCode.ALREADY_EXISTS, "ID_IN_USE", str(error))
        except Superseded:
            self._refuse(grpc.StatusCode.ABORTED, "SUPERSEDED", "a newer session of this agent is open")
        except Unavailable:
            self._refuse(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", "the database is away: come back")
        except Exception:
            if not self._over.is_set():  # else it is the transport's word that the call has been ended
                log.exception("session_failed")
                text = "the coordinator failed at what this agent said: see its log"
                self._refuse(grpc.StatusCode.INTERNAL, "INTERNAL", text)
        finally:
            self._over.set()

    async def _handle(self, message: wire.AgentMessage) -> None:
        if message.seq != self._expected_seq:
            raise MalformedWord(f"seq: {message.seq} came where {self._expected_seq} was due")
        self._expected_seq += 1
        session = self._session
        if session is None:
            await self._hello(message)
            return
        session.holder.heard_at = self._supervisor.clock.monotonic()
        session.basis_seq = message.seq
        self._dispatch(session, message)
        self._supervisor.hurry()

    async def _hello(self, message: wire.AgentMessage) -> None:
        if message.WhichOneof("body") != "hello":
            raise MalformedWord("body: the first message must be Hello")
        hello = message.hello
        _check_hello(hello)
        session = await self._fleet.open(hello, message.seq, _passed_on_by(self._context))
        if self._left:
            # The connection ended while the session was being committed.
            self._fleet.stream_ended(session)
            return
        self._session = session
        log.info(
            "session_opened",
            agent=hello.agent_id,
            session=session.holder.committed,
            slots=hello.slots,
            held_leases=len(hello.held_leases),
            **({"elsewhere": len(hello.elsewhere)} if hello.elsewhere else {}),
            **({"via": session.via} if session.via else {}),
        )
        self._opened.set()

    def _dispatch(self, session: AgentSession, message: wire.AgentMessage) -> None:
        fleet = self._fleet
        match message.WhichOneof("body"):
            case "results":
                self._results(session, message.results)
            case "credits":
                fleet.credits(session, message.credits.grant_limit)
            case "leases_accepted":
                fleet.accepted(session, message.leases_accepted.leases)
            case "leases_rejected":
                fleet.rejected(session, message.leases_rejected.leases)
            case "heartbeat":
                _check_held("heartbeat.elsewhere", message.heartbeat.elsewhere)
                fleet.heartbeat(session, message.heartbeat)
            case "returned":
                if message.returned.void_credits:
                    fleet.void_credits(session, message.returned.void_credits)
                for returned in message.returned.leases:
                    fleet.released(session, returned.lease, "returned", started=returned.started)
            case "draining":
                fleet.draining(session)
            case "goodbye":
                for returned in message.goodbye.returned:
                    fleet.released(session, returned.lease, "returned", started=returned.started)
                fleet.goodbye(session)
                self._over.set()
            case "hello":
                raise MalformedWord("body: a second Hello")
            case _ if len(UnknownFieldSet(message)):
                # Of a newer agent: whatever it adds within a version may be passed over.
                log.debug("unknown_word", agent=session.holder.agent, seq=message.seq)
            case _:
                raise MalformedWord("body: missing")

    def _results(self, session: AgentSession, results: wire.Results) -> None:
        now = self._supervisor.clock.now()
        for result in results.results:
            if result.log_lines:
                self._on_printed(result)
            message = _attempt_ended(result, session.epoch, now, self._supervisor)
            if message.failure is not None and message.failure.reason == OUT_OF_MEMORY:
                message = msgspec.structs.replace(
                    message, memory_most=most_memory(self._supervisor, result.lease.run_id, message.step)
                )
            if message.outcome is None and (message.artifacts or may_refer(message.output)):
                deliver = functools.partial(self._deliver, session, result)
                self._supervisor.artifact_results.take(result.lease.run_id, message, deliver)
            else:
                self._deliver(session, result, message)

    def _deliver(self, session: AgentSession, result: wire.StepResult, message: AttemptEnded) -> None:
        run_id = result.lease.run_id
        is_nobodys = self._fleet.is_of_another(session, result.lease) or len(run_id) != RUN_ID_BYTES
        if not is_nobodys and self._supervisor.deliver(run_id, message):
            return
        if is_nobodys or self._fleet.is_settled(result.result_id):
            status = self._fleet.status_of_late(session, result.result_id)
            session.acknowledge(
                Acknowledgement(lease_key(result.lease), result.lease.token, result.result_id, int(status))
            )
        else:
            self._fleet.late_results.take(session, run_id, message)

    # --- writing

    async def _write_all(self, session: AgentSession) -> None:
        """The only writer of the stream."""
        try:
            await Pen(self._context, session).run()
        except Exception as error:
            # The transport says that the peer is gone by classes of its own, some of them private.
            log.debug("write_failed", session=session.holder.committed, error=type(error).__name__)
            self._over.set()


async def _first_of(task: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Returns when the task is done or one of the events is set; the task goes on."""
    waits = {asyncio.create_task(event.wait()) for event in events}
    try:
        await asyncio.wait({task, *waits}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _passed_on_by(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The coordinator that passes the stream on; "": the agent has opened it itself."""
    found = next((value for key, value in context.invocation_metadata() or () if key == HOP), "")
    return str(found)[:MOST_NAME]


def _check_hello(hello: wire.Hello) -> None:
    for name, value in (("agent_id", hello.agent_id), ("boot_id", hello.boot_id)):
        if not value or len(value) > 128 or not value.isprintable():
            raise MalformedWord(f"hello.{name}: needs 1 to 128 printable characters")
    if not 1 <= hello.slots <= 10_000:
        raise MalformedWord("hello.slots: needs 1 to 10,000")
    for name, amount in hello.resources.items():
        if not 0 <= amount < math.inf:
            raise MalformedWord(f"hello.resources.{name[:128]}: needs a finite number, 0 or more")
    _check_held("hello.held_leases", hello.held_leases)
    _check_held("hello.elsewhere", hello.elsewhere)


def _check_held(name: str, named: Iterable[wire.HeldLease]) -> None:
    for held in named:
        if len(held.lease.run_id) != RUN_ID_BYTES:
            raise MalformedWord(f"{name}.lease.run_id: needs {RUN_ID_BYTES} bytes")


def _attempt_ended(result: wire.StepResult, session: int, now: int, supervisor: Supervisor) -> AttemptEnded:
    lease = result.lease
    report = _report(result, traced=supervisor.traces is not None)
    if result.status == wire.RESULT_STATUS_OK:
        problem = _output_problem(result.output, supervisor.timing.max_output_bytes)
        artifacts: tuple[MadeArtifact, ...] = ()
        if result.artifacts:
            try:
                artifacts = made_artifacts(result.artifacts)
            except BadReference as error:
                problem = Failure("Artifact", str(error))
        if problem is None:
            return AttemptEnded(
                now,
                lease.step,
                lease.item,
                lease.token,
                result.result_id,
                session,
                None,
                result.output,
                report=report,
                artifacts=artifacts,
                receipts=tuple(each.receipt for each in result.artifacts),
            )
        outcome, failure = Outcome.FAILED, problem
    else:
        outcome = _OUTCOMES.get(result.status, Outcome.FAILED)
        failure = Failure(
            result.error.reason or "Unknown", result.error.message[:FAILURE_BYTES], result.error.error_class[:500]
        )
    return AttemptEnded(
        now,
        lease.step,
        lease.item,
        lease.token,
        result.result_id,
        session,
        outcome,
        failure=failure,
        error_bases=report.error_bases,
        jitter=supervisor.ids.jitter(),
        report=report,
    )


def _report(result: wire.StepResult, *, traced: bool) -> AttemptReport:
    """Without traces nobody asks how the time was spent, and a release that knows no such event can go on with the
    run."""
    # Most attempts have neither of these, and to look into what is not there costs as much as all the rest.
    metrics, metadata = result.metrics, result.metadata
    failed = result.HasField("error")
    return AttemptReport(
        run_duration=_span(result.run_duration),
        cpu_duration=_span(result.cpu_duration),
        peak_memory_bytes=max(result.peak_memory_bytes, 0),
        exit_code=result.exit_code if result.HasField("exit_code") else None,
        metrics=tuple(metrics.items()) if metrics else (),
        metadata=tuple(metadata.items()) if metadata else (),
        traceback=result.error.traceback if failed else "",
        error_bases=tuple(result.error.error_bases) if failed else (),
        bytes_moved=max(result.bytes_moved, 0),
        timing=_timing(result) if traced and result.HasField("environment_duration") else None,
    )


def _timing(result: wire.StepResult) -> AttemptTiming:
    return AttemptTiming(_span(result.environment_duration), _span(result.upload_duration), _span(result.age))


def _span(told: Duration) -> int:
    """Microseconds; what no attempt can have taken is cut to what everybody can store and show."""
    return min(max(microseconds(told), 0), LONGEST_SPAN)


def _output_problem(output: bytes, limit: int) -> Failure | None:
    """The agent checks outputs before it sends them: this is against a broken one."""
    if len(output) > limit:
        return Failure("OutputTooLarge", f"the output has {len(output)} bytes, and {limit} is the limit")
    if output:
        try:
            _decode_json(output)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Failure("OutputUnserialisable", "the output is no JSON text in UTF-8")
        except RecursionError:
            return Failure("OutputUnserialisable", "the output is nested too deeply: make it flatter")
    return None
