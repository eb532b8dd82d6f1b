"""Why no agent takes a step run that is READY."""

from __future__ import annotations

from collections.abc import Iterator

from penstock_coordinator.core.plan.environments import CONTAINER, environment_kind
from penstock_coordinator.core.plan.model import Json, Lack, Line
from penstock_coordinator.core.run.explain.situations import (
    AgentSituation,
    LineSituation,
    Reason,
)
from penstock_coordinator.core.run.explain.words import (
    NAMED,
    NAMED_AGENTS,
    agents_listed,
    amount,
    conjoined,
    counted,
    quantity,
)

ABOUT_TO_BE_LEASED = "An agent has room: it is about to be leased."


def line_reasons(line: Line, situation: LineSituation) -> Iterator[Reason]:
    """Why no agent takes a step of the line."""
    agents = tuple(agent for agent in situation.agents if not agent.left)
    left = [agent.agent for agent in situation.agents if agent.left and not agent.lacks]
    serving = [agent for agent in agents if not agent.lacks]
    staying = [agent for agent in serving if not agent.draining]
    ready = [agent for agent in staying if not agent.paused]
    if not agents:
        text = f"No agent is connected. {_needed(line)}{_left(left)}{_of_member(situation)}"
        yield Reason("NoAgent", text, _line_details(line) | _left_details(left) | _member_details(situation))
    elif not serving:
        yield _none_serves(line, agents, left, situation)
    elif not staying:
        yield _none_takes("AgentsDraining", "draining", serving, _left(left))
    elif not ready:
        yield _none_takes("AgentsPaused", "paused", staying, " `penstock agents resume AGENT` lets work come again.")
    elif all(agent.disk_low for agent in ready):
        names = [agent.agent for agent in ready]
        yield Reason(
            "AgentsLowOnDisk",
            "The agents that could run it have less free disk than their floor, and take no work:"
            f" {agents_listed(names)}."
            " Make room in their data folders, or lower PENSTOCK_AGENT_DISK_FLOOR_BYTES.",
            {"agents": names},
        )
    elif all(agent.full for agent in ready):
        yield _all_busy(ready, situation)
    else:
        yield Reason("Queued", ABOUT_TO_BE_LEASED, {})


def _none_takes(kind: str, word: str, agents: list[AgentSituation], more: str) -> Reason:
    names = [agent.agent for agent in agents]
    who = "The only agent that could run it is" if len(names) == 1 else "The agents that could run it are"
    return Reason(kind, f"{who} {word}: {agents_listed(names)}.{more}", {"agents": names})


def _left(names: list[str]) -> str:
    """Of agents that would do, and have ended well: a person has forgotten them, or waits for them."""
    if not names:
        return ""
    them = "it" if len(names) == 1 else "them"
    were = "was" if len(names) == 1 else "were"
    return f" {agents_listed(names)} could run it, but {were} drained or stopped: start {them} again."


def _left_details(names: list[str]) -> dict[str, Json]:
    return {"left": names} if names else {}


def _of_member(situation: LineSituation) -> str:
    """Other agents may be connected with the head alone."""
    if not situation.member:
        return ""
    return (
        f' The coordinator "{situation.member}" has the run, as a member, and knows the agents that are linked with it:'
        " `penstock agents` shows the links, `penstock coordinators` the address that agents have to reach."
    )


def _member_details(situation: LineSituation) -> dict[str, Json]:
    return {"member": situation.member} if situation.member else {}


def _none_serves(line: Line, agents: tuple[AgentSituation, ...], left: list[str], situation: LineSituation) -> Reason:
    closest = sorted(agents, key=lambda agent: len(agent.lacks))[:NAMED]
    text = (
        f"{_none_of(len(agents))} run it: {_all_that_lack(agents)}. {_needed(line)}{_left(left)}{_of_member(situation)}"
    )
    lacking = [
        {
            "agent": agent.agent,
            "lacks": [_told(x) for x in agent.lacks],
        }
        for agent in closest
    ]
    details = _line_details(line) | {"agents": lacking} | _left_details(left) | _member_details(situation)
    return Reason("NoAgent", text, details)


def _told(lack: Lack) -> dict[str, Json]:
    told: dict[str, Json] = {"what": lack.what, "name": lack.name, "wanted": lack.wanted, "has": lack.has}
    return told | {"why": lack.why} if lack.why else told


def _none_of(count: int) -> str:
    return f"None of the {count} connected agents can" if count > 1 else "The only connected agent cannot"


def _all_that_lack(agents: tuple[AgentSituation, ...]) -> str:
    """Those that lack the same together, those that lack least first."""
    alike: dict[tuple[Lack, ...], list[str]] = {}
    for agent in sorted(agents, key=lambda agent: len(agent.lacks)):
        alike.setdefault(agent.lacks, []).append(agent.agent)
    told = list(alike.items())[:NAMED_AGENTS]
    named = NAMED_AGENTS // len(told)
    texts = [f"{agents_listed(names, named)} {_lacks(lacks, several=len(names) > 1)}" for lacks, names in told]
    rest = len(agents) - sum(len(names) for _, names in told)
    if rest:
        texts.append(f"{counted(rest, 'other')} {'lacks' if rest == 1 else 'lack'} other things")
    return "; ".join(texts)


def _lacks(lacks: tuple[Lack, ...], *, several: bool) -> str:
    have, do = ("have", "do") if several else ("has", "does")
    texts = []
    for lack in lacks:
        if lack.what == "queue":
            texts.append(f'{do} not serve the queue "{lack.name}"')
        elif lack.what == "label":
            has = f"{have} {lack.name}={lack.has}" if lack.has else f"{have} no label {lack.name}"
            texts.append(f"{has}, not {lack.name}={lack.wanted}")
        elif lack.what == "resource":
            has, wanted = amount(lack.name, float(lack.has or 0)), quantity(lack.name, float(lack.wanted))
            texts.append(f"{have} {has}, not {wanted}")
        elif lack.name == CONTAINER:
            texts.append(f"{have} no container engine" + (f" ({lack.why})" if lack.why else ""))
        else:
            why = f" ({lack.why})" if lack.why else ""
            texts.append(f"cannot make its {lack.name} {lack.what}{why}")
    return " and ".join(texts)


def _needed(line: Line) -> str:
    """What to start."""
    parts = [f'serves the queue "{line.queue}"']
    if line.labels:
        parts.append("has the label " + " and ".join(f"{key}={value}" for key, value in line.labels))
    if line.resources:
        parts.append("has " + " and ".join(amount(name, number) for name, number in line.resources))
    if line.environment:
        kind = environment_kind(line.environment)
        parts.append("has a container engine (Docker or Podman)" if kind == CONTAINER else f"makes {kind} environments")
    return f"It needs an agent that {conjoined(parts)}."


def _line_details(line: Line) -> dict[str, Json]:
    details: dict[str, Json] = {
        "queue": line.queue,
        "labels": dict(line.labels),
        "resources": dict(line.resources),
    }
    return details | {"environment": line.environment} if line.environment else details


def _all_busy(agents: list[AgentSituation], situation: LineSituation) -> Reason:
    names = [
        f"{agent.agent} ({agent.leases} under way, {counted(agent.slots, 'slot')}"
        f"{', low on disk' if agent.disk_low else ''})"
        for agent in agents
    ]
    who = "The only agent that can run it is" if len(names) == 1 else "All agents that can run it are"
    text = f"{who} busy: {agents_listed(names)}"
    if situation.ahead:
        waited_for = f"{counted(situation.ahead, 'place')} {'is' if situation.ahead == 1 else 'are'} waited for"
        text += f"; {waited_for} by others who come first"
    details: dict[str, Json] = {
        "ahead": situation.ahead,
        "priority": situation.priority,
        "effective_priority": situation.effective_priority,
        "agents": [{"agent": a.agent, "leases": a.leases, "slots": a.slots} for a in agents],
    }
    return Reason("AgentsBusy", f"{text}{_priority(situation)}.", details)


def _priority(situation: LineSituation) -> str:
    """Nothing of one that is 0 and has not grown."""
    gained = situation.effective_priority - situation.priority
    if gained:
        return f"; its priority is {situation.effective_priority}, {gained} of it for waiting"
    return f"; its priority is {situation.priority}" if situation.priority else ""
