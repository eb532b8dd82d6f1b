"""States as they are shown: the word of the glossary and its colour."""

from __future__ import annotations

from penstock.cli.foreign_text import first_line, visible
from penstock.v1 import agent_admin_service_pb2, dead_letter_pb2, run_pb2

RUN_AT_REST = frozenset({"COMPLETED", "FAILED", "CANCELLED", "ROLLED_BACK"})
STEP_AT_REST = RUN_AT_REST | {"SKIPPED", "UPSTREAM_FAILED"}

COLOURS = {
    "PENDING": "dim",
    "READY": "yellow",
    "RUNNING": "cyan",
    "WAITING": "magenta",
    "PAUSED": "magenta",
    "CANCELLING": "magenta",
    "ROLLING_BACK": "magenta",
    "COMPLETED": "green",
    "FAILED": "bold red",
    "SKIPPED": "dim",
    "UPSTREAM_FAILED": "red",
    "CANCELLED": "yellow",
    "ROLLED_BACK": "yellow",
    "CONNECTED": "green",
    "DRAINING": "magenta",
    "LOST": "bold red",
    "GONE": "dim",
}


def run_state(state: run_pb2.RunState.ValueType) -> str:
    return run_pb2.RunState.Name(state).removeprefix("RUN_STATE_")


def step_state(state: run_pb2.StepRunState.ValueType) -> str:
    return run_pb2.StepRunState.Name(state).removeprefix("STEP_RUN_STATE_")


def agent_state(agent: agent_admin_service_pb2.Agent) -> str:
    """Of one that is connected and takes nothing because somebody paused it: PAUSED."""
    if agent.paused and agent.state == agent_admin_service_pb2.AGENT_STATE_CONNECTED:
        return "PAUSED"
    return agent_admin_service_pb2.AgentState.Name(agent.state).removeprefix("AGENT_STATE_")


def attempt_outcome(outcome: run_pb2.AttemptOutcome.ValueType) -> str:
    """ "RUNNING" while there is none."""
    if not outcome:
        return "RUNNING"
    return run_pb2.AttemptOutcome.Name(outcome).removeprefix("ATTEMPT_OUTCOME_")


def letter_state(state: dead_letter_pb2.DeadLetterState.ValueType) -> str:
    return dead_letter_pb2.DeadLetterState.Name(state).removeprefix("DEAD_LETTER_STATE_")


def budget_word(budget: run_pb2.Budget.ValueType) -> str:
    """ "" for none."""
    return run_pb2.Budget.Name(budget).removeprefix("BUDGET_").lower() if budget else ""


def budget_text(budget: run_pb2.Budget.ValueType) -> str:
    """What was used up, with what sets it."""
    return {
        run_pb2.BUDGET_RETRIES: "its retries (retry.max_attempts)",
        run_pb2.BUDGET_INFRASTRUCTURE: "the agents that it may lose (retry.max_losses)",
        run_pb2.BUDGET_POISON: "the agents that may die of it (three)",
    }.get(budget, "")


def failure_line(failure: run_pb2.Failure) -> str:
    """The first line of `failure_text`."""
    return first_line(failure_text(failure))


def failure_text(failure: run_pb2.Failure) -> str:
    """`KeyError: 'missing'`: the class of the exception that user code raised, else the reason; then the message."""
    raised = failure.error_class.rpartition(".")[2] if failure.reason == "UserError" else ""
    return ": ".join(part for part in (visible(raised or failure.reason), visible(failure.message.strip())) if part)
