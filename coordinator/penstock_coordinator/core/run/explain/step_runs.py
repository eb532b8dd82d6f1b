"""What holds the run as a whole, and each of its step runs."""

from __future__ import annotations

from collections.abc import Iterator

from penstock_coordinator.core.plan.model import CHILDREN, LOOKUPS, Json, PipelineAction, Step
from penstock_coordinator.core.run.child_ids import spelled_id
from penstock_coordinator.core.run.events import WHOLE, WaitReason
from penstock_coordinator.core.run.explain.agents import line_reasons
from penstock_coordinator.core.run.explain.budget import held_by_budget, over_budget, waits_for_window
from penstock_coordinator.core.run.explain.rules import at_rest, followed_item, pending
from penstock_coordinator.core.run.explain.secrets import missing_secrets
from penstock_coordinator.core.run.explain.situations import (
    Outside,
    Reason,
    StepExplanation,
)
from penstock_coordinator.core.run.explain.undoing import waiting_to_undo, was_undone
from penstock_coordinator.core.run.explain.words import (
    about,
    counted,
    limit_reason,
    one_line,
    place_details,
    place_text,
    quantity,
)
from penstock_coordinator.core.run.places import same_group
from penstock_coordinator.core.run.raised import MEMORY, memory_of
from penstock_coordinator.core.run.spans import spelled
from penstock_coordinator.core.run.state import ActiveStep, Paused, Run, Wait
from penstock_coordinator.core.run.states import RunState, StepState


def explain_open(run: Run, outside: Outside, limit: int) -> tuple[list[StepExplanation], int]:
    """All step runs that are not at rest, up to `limit` explanations, and how many more there are. Of a mapped step its
    items; those that are held alike are one explanation. Takes time by the number of steps."""
    found: list[StepExplanation] = []
    omitted = 0
    for number in range(len(run.plan.steps)):
        if run.states[number] >= StepState.COMPLETED:
            continue
        for each in _open_of(run, number, outside):
            if len(found) < limit:
                found.append(each)
            else:
                omitted += each.count
    return found, omitted


def _open_of(run: Run, number: int, outside: Outside) -> Iterator[StepExplanation]:
    mapped = run.maps.get(number)
    if mapped is None:
        yield explain(run, number, WHOLE, outside)
        return
    last: StepExplanation | None = None
    for item, state in enumerate(mapped.states):
        if state >= StepState.COMPLETED:
            continue
        if last is not None and _alike(run, last, item, state):
            last.count += 1
            continue
        if last is not None:
            yield last
        last = explain(run, number, item, outside)
    if last is not None:
        yield last


def _alike(run: Run, last: StepExplanation, item: int, state: int) -> bool:
    """Items in a row that never had a lease are held by the same reasons."""
    if last.state != state or item != last.item + last.count or state not in (StepState.READY, StepState.PENDING):
        return False
    if same_group(run.plan, run, last.step, last.item, item + 1) <= item:
        return False
    if _beside(run, last.step, last.item) != _beside(run, last.step, item):
        return False
    active = run.maps[last.step].active
    return item not in active and last.item not in active


def _beside(run: Run, step: int, item: int) -> tuple[StepState | None, bool]:
    """What else holds an item: the state of the one that it goes along with, and its map's limit."""
    followed = followed_item(run, run.plan.steps[step], item)
    places = run.maps[step].places
    state = None if followed is None else run.state_of(*followed)
    return state, places is not None and places.holds(item)


def explain(run: Run, step: int, item: int, outside: Outside) -> StepExplanation:
    """Raises `LookupError` for a step or an item that is not there (yet)."""
    state = run.state_of(step, item)
    node = run.plan.steps[step]
    if state.at_rest:
        reasons = list(at_rest(run, node, item, state))
        if state is StepState.ROLLED_BACK:
            reasons += was_undone(run, node)
        if item == WHOLE and step in run.maps:
            reasons.append(_whole_map(run, node, "AtRest"))
    elif item == WHOLE and step in run.maps:
        reasons = [_whole_map(run, node, "Running")]
    else:
        reasons = list(_holds(run, node, item, state, outside))
    return StepExplanation(step, item, state, reasons)


def _holds(run: Run, step: Step, item: int, state: StepState, outside: Outside) -> Iterator[Reason]:
    if state is not StepState.RUNNING:
        yield from _run_holds(run, outside)
    match state:
        case StepState.PENDING:
            yield from waiting_to_undo(run, step) if step.undoes is not None else pending(run, step, item)
        case StepState.READY:
            yield from _ready(run, step, item, outside)
        case StepState.WAITING:
            yield from _waiting(run, step, item, outside)
        case _:
            yield from _running(run, step, item, outside)
    lookup = run.lookups.get((step.number, item))
    if lookup is not None and lookup.why:
        yield Reason("Cache", f"It is run without the cache: {one_line(lookup.why)}.", {"why": lookup.why})
    if step.secrets and state is not StepState.RUNNING:
        yield from missing_secrets(step, outside)
    yield from _memory_raised(run, step, item)
    yield from _budgets(run.active_step(step.number, item))


def _memory_raised(run: Run, step: Step, item: int) -> Iterator[Reason]:
    """It asks for more than its step does."""
    found = None if run.raised is None else run.raised.at(run.agents_line(step.number, item))
    if found is None:
        return
    first, now, wanted = (
        quantity(MEMORY, memory)
        for memory in (memory_of(run.plan.lines[step.line]), found.memory_bytes, found.wanted_bytes)
    )
    text = f"It ran out of memory, and asks for {now} in place of {first} (retry.memory_factor)"
    if found.wanted_bytes > found.memory_bytes:
        text += f"; it would ask for {wanted}, but no agent that could run it has more than {now}"
    details: dict[str, Json] = {"memory_bytes": found.memory_bytes, "wanted_bytes": found.wanted_bytes}
    yield Reason("MemoryRaised", text + ".", details)


def _budgets(active: ActiveStep | None) -> Iterator[Reason]:
    """What its attempts were charged to beside its retries."""
    if active is None or not (active.losses or active.deaths):
        return
    lost, died = len(active.deaths) + active.losses, len(active.deaths)
    text = f"{counted(lost, 'agent')} {'was' if lost == 1 else 'were'} lost while running it"
    if died:
        text += f", {died} of them with their process: three of these are poison" if lost > 1 else ", with its process"
    yield Reason("Losses", text + ".", {"losses": active.losses, "deaths": died})


# --- the run as a whole


def explain_run(run: Run, outside: Outside) -> list[Reason]:
    """Why the run as a whole does not go on; empty if nothing holds it."""
    if run.at_rest:
        why = f": {one_line(run.reason)}" if run.reason else ""
        return [Reason("AtRest", f"The run is {run.state.name}{why}.", {"state": run.state.name})]
    held = held_by_budget(run) if run.over_budget else None
    return [*_run_holds(run, outside), *([held] if held is not None else [])]


def _run_holds(run: Run, outside: Outside) -> Iterator[Reason]:
    held = outside.run_key()
    if held is not None:
        yield limit_reason("RunHeld", "The run has not begun: it waits", held)
    if run.paused is not None:
        yield _paused(run.paused, outside)
    if run.over_budget:
        yield over_budget(run)
    window = outside.window()
    if window is not None:
        yield waits_for_window(window, outside.now)
    if run.state is RunState.CANCELLING:
        yield _cancelling(run, outside)
    elif run.undoing is not None and run.undoing.begun:
        yield _rolling_back(run)


def _paused(paused: Paused, outside: Outside) -> Reason:
    by = f" by {paused.requested_by}" if paused.requested_by else ""
    why = f" ({one_line(paused.reason)})" if paused.reason else ""
    text = f"The run was paused{by} {about(outside.now - paused.at)} ago{why}: nothing starts before it is resumed."
    details: dict[str, Json] = {"requested_by": paused.requested_by, "reason": paused.reason, "since_us": paused.at}
    return Reason("RunPaused", text, details)


def _rolling_back(run: Run) -> Reason:
    assert run.undoing is not None
    by = f" by {run.undoing.requested_by}" if run.undoing.requested_by else ""
    why = f" ({one_line(run.undoing.reason)})" if run.undoing.reason else ""
    text = f"The run is being rolled back{by}{why}: what it did is undone, the latest first."
    details: dict[str, Json] = {"requested_by": run.undoing.requested_by, "reason": run.undoing.reason}
    return Reason("RunRollingBack", text, details)


def _cancelling(run: Run, outside: Outside) -> Reason:
    left = max(run.cancel_deadline - outside.now, 0)
    how = "at once" if run.immediate else "politely; cleanup steps still run"
    text = f"The run is being stopped {how} ({one_line(run.reason)}). It ends in at most {about(left)}."
    return Reason("RunCancelling", text, {"reason": run.reason, "immediate": run.immediate})


# --- READY, WAITING, RUNNING


def _ready(run: Run, step: Step, item: int, outside: Outside) -> Iterator[Reason]:
    plan = run.plan
    places = None if item == WHOLE else run.maps[step.number].places
    if places is not None and places.holds(item):
        text = f"The map's max_parallel is {places.limit}, and so many of its items are under way."
        yield Reason("MapParallel", text, {"limit": places.limit, "running": places.taken})
        key = None if step.line == CHILDREN else outside.step_key(step.line)
        if key is not None:
            yield limit_reason("Concurrency", "It waits", key)
        yield from _queued(run, step, item, outside)
        return
    if step.line == CHILDREN:
        return
    if run.line_of(step, item) == LOOKUPS:
        yield Reason("Cache", "It is about to be looked up in the cache.", {})
        return
    key = outside.step_key(step.line)
    held = run.stands_still or key is not None or bool(plan.max_parallel and run.running >= plan.max_parallel)
    if plan.max_parallel and run.running >= plan.max_parallel:
        are = f"{counted(run.running, 'step run')} of it {'is' if run.running == 1 else 'are'} under way"
        text = f"The run's max_parallel is {plan.max_parallel}, and {are}."
        yield Reason("MaxParallel", text, {"limit": plan.max_parallel, "running": run.running})
    if key is not None:
        yield limit_reason("Concurrency", "It waits", key)
    if outside.now < outside.queued_open_at:
        text = "The coordinator has just started: agents have time to come back before their steps go elsewhere."
        yield Reason("Recovering", text, {})
    line = run.agents_line(step.number, item)
    for reason in line_reasons(run.line_at(line), outside.line(line)):
        if reason.kind != "Queued" or not held:
            yield reason
    yield from _queued(run, step, item, outside)


def _queued(run: Run, step: Step, item: int, outside: Outside) -> Iterator[Reason]:
    limit = step.timeouts.queued
    if limit is None or run.stands_still:
        return
    active = run.active_step(step.number, item)
    since = active.ready_at if active is not None else run.maps[step.number].first_ready_at(item)
    due = max(since + limit, outside.queued_open_at)
    left = max(due - outside.now, 0)
    text = f"It fails in {about(left)} if no agent has taken it (timeouts.queued is {spelled(limit)})."
    yield Reason("QueuedTimeout", text, {"timeout_us": limit, "left_us": left})


def _waiting(run: Run, step: Step, item: int, outside: Outside) -> Iterator[Reason]:
    active = run.active_step(step.number, item)
    if active is None or active.wait is None:
        return
    wait = active.wait
    if wait.reason is WaitReason.BACKOFF:
        yield _backoff(step, active, outside)
    elif wait.reason is WaitReason.SUB_PIPELINE:
        yield _sub_pipeline(step, active, outside)
    elif wait.reason is WaitReason.CACHE:
        yield _cache(wait)


def _cache(wait: Wait) -> Reason:
    run_id, _, display_name = wait.key.partition(" ")
    if not run_id:
        return Reason("Cache", "Its value is being looked up in the cache.", {})
    text = f"It waits for the same value, which {display_name} of the run {run_id} computes."
    return Reason("Cache", text, {"run_id": run_id, "display_name": display_name})


def _sub_pipeline(step: Step, active: ActiveStep, outside: Outside) -> Reason:
    assert active.wait is not None
    assert isinstance(step.action, PipelineAction)
    child, pipeline = bytes.fromhex(active.wait.key), step.action.pipeline
    run_id, state = spelled_id(child), outside.child_state(child)
    is_so = f", which is {state}" if state else ""
    text = f'It waits for the run {run_id} of "{pipeline}"{is_so} (attempt {active.attempts}).'
    details: dict[str, Json] = {"run_id": run_id, "pipeline": pipeline, "state": state, "attempt": active.attempts}
    held = outside.child_key(child)
    if held is not None:
        text += f" That run has not begun: it waits {place_text(held)}."
        details["held"] = place_details(held)
    if outside.child_over_budget(child):
        text += f" That run has used its budget: `penstock explain {run_id}` tells more."
        details["over_budget"] = True
    return Reason("SubPipeline", text, details)


def _backoff(step: Step, active: ActiveStep, outside: Outside) -> Reason:
    assert active.wait is not None
    left = max((active.wait.until or 0) - outside.now, 0)
    text = f"It waits {about(left)} more before attempt {active.failures + 1} of {step.retry.max_attempts}"
    details: dict[str, Json] = {"until_us": active.wait.until, "left_us": left, "failures": active.failures}
    if active.last_failure is not None:
        why = active.last_failure
        text += f"; attempt {active.attempts} failed: {why.error_class or why.reason}"
        text += f": {one_line(why.message)}" if why.message else ""
    return Reason("Backoff", text + ".", details)


def _running(run: Run, step: Step, item: int, outside: Outside) -> Iterator[Reason]:
    active = run.active_step(step.number, item)
    if active is None or active.leased_at is None:
        return
    span = outside.now - active.leased_at
    note = outside.note(step.number, item)
    if note:
        text = (
            f"It has been on {active.agent} for {about(span)} (attempt {active.attempts}), and has not begun: {note}."
        )
        yield Reason("Preparing", text, {"agent": active.agent, "attempt": active.attempts, "for_us": span})
        return
    text = f"It runs on {active.agent} for {about(span)} (attempt {active.attempts})"
    if run.doomed(step.number):
        text += " and is being stopped"
    yield Reason("Running", text + ".", {"agent": active.agent, "attempt": active.attempts, "for_us": span})


def _whole_map(run: Run, step: Step, kind: str) -> Reason:
    counts = run.item_counts(step.number)
    assert counts is not None
    texts = [f"{count} {name.upper()}" for name, count in counts._asdict().items() if count]
    text = f"Its {counted(run.maps[step.number].count, 'item')}: {', '.join(texts) or 'none'}."
    groups = run.maps[step.number].groups
    if groups is not None and groups.undecided and step.followed is not None:
        followed = run.plan.steps[step.followed].name
        have = "1 has not given its list" if groups.undecided == 1 else f"{groups.undecided} have not given their lists"
        text += f' Of the items of "{followed}" {have} yet.'
    return Reason(kind, text, {name: count for name, count in counts._asdict().items() if count})
