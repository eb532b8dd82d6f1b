"""Agents: what they said of themselves, and how they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import agent_admin_service_pb2 as admin
from penstock.v1.pipeline_pb2 import Resources
from penstock_coordinator.api.encoding.values import instant, span

if TYPE_CHECKING:
    from penstock_coordinator.ports import AgentRow
    from penstock_coordinator.runtime.views import AgentView


def connected(view: AgentView) -> admin.Agent:
    agent = _described(view.row, admin.AgentState.ValueType(view.state))
    agent.leases = view.leases
    if view.heartbeat_age is not None:
        agent.heartbeat_age.CopyFrom(span(view.heartbeat_age))
    agent.discarded_results = view.discarded
    agent.via = view.via
    agent.links.extend(view.links)
    return agent


def away(row: AgentRow, discarded: int = 0, *, left: bool = False) -> admin.Agent:
    """An agent without a stream. `left`: it said goodbye, whatever the row says yet."""
    agent = _described(row, admin.AGENT_STATE_GONE if row.goodbye or left else admin.AGENT_STATE_LOST)
    agent.discarded_results = discarded
    return agent


def _described(row: AgentRow, state: admin.AgentState.ValueType) -> admin.Agent:
    return admin.Agent(
        id=row.agent_id,
        state=state,
        session_epoch=row.session_epoch,
        boot_id=row.boot_id,
        version=row.version,
        hostname=row.hostname,
        queues=row.queues,
        labels=dict(row.labels),
        resources=_resources(dict(row.resources)),
        slots=row.slots,
        connect_time=instant(row.connect_time),
        paused=row.paused,
    )


def _resources(amounts: dict[str, float]) -> Resources:
    """Three have fields of their own; the others go by name."""
    return Resources(
        cpu=amounts.pop("cpu", 0.0),
        memory_bytes=_whole(amounts.pop("memory_bytes", 0.0)),
        gpu=amounts.pop("gpu", 0.0),
        custom=amounts,
    )


def _whole(amount: float) -> int:
    """Agents say numbers; what no int64 holds is shown as the nearest that does."""
    return int(min(max(amount, 0.0), 2.0**62)) if amount == amount else 0
