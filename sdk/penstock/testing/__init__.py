"""A simulator of Penstock: the real rules of runs, of dispatch and of agents' sessions, on one timeline, with faults.

`simulate` plays a pipeline of one's own. It needs the packages of the coordinator and the agent: install
`penstock[all]`.
"""

from __future__ import annotations

from penstock.testing.agents import AgentSpec
from penstock.testing.faults import Fault, FaultKind
from penstock.testing.simulate import (
    Attempt,
    PromiseBroken,
    SimulationResult,
    StepBehaviour,
    simulate,
)

__all__ = [
    "AgentSpec",
    "Attempt",
    "Fault",
    "FaultKind",
    "PromiseBroken",
    "SimulationResult",
    "StepBehaviour",
    "simulate",
]
