"""penstock.v1.AgentAdminService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import agent_admin_service_pb2 as pb
from penstock.v1.agent_admin_service_pb2_grpc import AgentAdminServiceServicer
from penstock_coordinator.api.encoding import agents as encode
from penstock_coordinator.api.errors import CallError, invalid, not_found
from penstock_coordinator.api.fields import span_of
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.api.request_ids import first_answer, request_key, same_answer
from penstock_coordinator.ports import RequestRow

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports import AgentRow, Clock, Stores
    from penstock_coordinator.runtime.engine import Engine

DRAIN = "AgentAdminService.Drain"
DRAIN_DEADLINE = 300 * 1_000_000
LONGEST_DRAIN = 7 * 86_400 * 1_000_000
MAX_AGENT_ID = 128


class AgentAdminService(AgentAdminServiceServicer):
    def __init__(self, stores: Stores, engine: Engine, clock: Clock) -> None:
        self._stores = stores
        self._engine = engine
        self._clock = clock

    async def List(self, request: pb.ListAgentsRequest, context: Context) -> pb.ListAgentsResponse:
        size, tokens = page_size(request.page_size), PageTokens(request, str)
        rows = await self._stores.agents.list_agents(size + 1, tokens.read(request.page_token) or "")
        views = self._engine.agents(await self._engine.elsewhere.leases())
        return pb.ListAgentsResponse(
            agents=[
                encode.connected(views[row.agent_id]) if row.agent_id in views else self._away(row)
                for row in rows[:size]
            ],
            next_page_token=tokens.write(rows[size - 1].agent_id) if len(rows) > size else "",
        )

    async def Get(self, request: pb.GetAgentRequest, context: Context) -> pb.GetAgentResponse:
        return pb.GetAgentResponse(agent=await self._agent(_agent_id(request.agent_id)))

    async def Drain(self, request: pb.DrainAgentRequest, context: Context) -> pb.DrainAgentResponse:
        agent_id = _agent_id(request.agent_id)
        deadline = (
            span_of(request.deadline, "deadline", LONGEST_DRAIN) if request.HasField("deadline") else DRAIN_DEADLINE
        )
        key = request_key(DRAIN, request)
        if await first_answer(self._stores.runs, key) is None:
            # An agent that was never seen is not found; one that is away cannot be drained.
            await self._agent(agent_id)
            await self._engine.drain_agent(agent_id, deadline)
            if key is not None:
                repeated = await self._stores.runs.remember_request(RequestRow(key, b""), self._clock.now())
                if repeated is not None:
                    same_answer(repeated)
        return pb.DrainAgentResponse(agent=await self._agent(agent_id))

    async def Pause(self, request: pb.PauseAgentRequest, context: Context) -> pb.PauseAgentResponse:
        return pb.PauseAgentResponse(agent=await self._paused(request.agent_id, paused=True))

    async def Resume(self, request: pb.ResumeAgentRequest, context: Context) -> pb.ResumeAgentResponse:
        return pb.ResumeAgentResponse(agent=await self._paused(request.agent_id, paused=False))

    async def _paused(self, named: str, *, paused: bool) -> pb.Agent:
        agent_id = _agent_id(named)
        if not await self._engine.pause_agent(agent_id, paused=paused):
            raise _unknown()
        return await self._agent(agent_id)

    async def _agent(self, agent_id: str) -> pb.Agent:
        view = self._engine.agents(await self._engine.elsewhere.leases()).get(agent_id)
        if view is not None:
            return encode.connected(view)
        row = await self._stores.agents.get_agent(agent_id)
        if row is None:
            raise _unknown()
        return self._away(row)

    def _away(self, row: AgentRow) -> pb.Agent:
        discarded = self._engine.discarded_results()[row.agent_id]
        return encode.away(row, discarded, left=self._engine.has_left(row.agent_id))


def _agent_id(text: str) -> str:
    if not text or len(text) > MAX_AGENT_ID or not text.isprintable():
        raise invalid(
            "agent_id", f"is required: 1 to {MAX_AGENT_ID} printable characters, as `penstock agents` (List) gives it"
        )
    return text


def _unknown() -> CallError:
    remedy = "`penstock agents` (List) names those that were"
    return not_found("agent_id", "UNKNOWN_AGENT", f"no agent of that id was ever connected: {remedy}")
