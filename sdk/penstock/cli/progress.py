"""What a watched run looks like: folded from its events, drawn by `penstock.cli.live`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from penstock.cli.foreign_text import first_line, visible
from penstock.cli.states import RUN_AT_REST, STEP_AT_REST, failure_line, run_state, step_state
from penstock.v1 import run_pb2, run_service_pb2

_WAITS_FOR = {"CacheAsked": "for the cache", "CacheAwaited": "for another step run that computes the value"}
"""Of a step run that is WAITING, where the event alone says it: its type."""


@dataclass(slots=True)
class StepProgress:
    """One step; a mapped one with its items. Times are seconds since the epoch, by the coordinator's clock."""

    name: str
    state: str = "PENDING"
    attempt: int = 0
    agent: str = ""
    failure: str = ""
    cached: str = ""
    """If it was answered from the cache: where the value came from."""
    waits_for: str = ""
    """Of one that stays READY: why no agent takes it."""
    came_back: str = ""
    """Of one that is not leased any more: why."""
    start_time: float | None = None
    end_time: float | None = None
    item_count: int | None = None
    items: dict[tuple[int, ...], str] = field(default_factory=dict)
    """Those that were heard of, by their places."""
    counts: Counter[str] = field(default_factory=Counter)

    def finished_items(self) -> int:
        return sum(count for state, count in self.counts.items() if state in STEP_AT_REST)

    def set_items(self, place: tuple[int, ...], count: int, state: str) -> None:
        """So many items, from the place on, changed alike. A nested map gets items that it was not expanded to."""
        *outer, first = place
        for item in range(first, first + count):
            known = self.item_count or 0
            before = self.items.get((*outer, item))
            if before is not None or len(self.items) < known:
                self.counts[before or "PENDING"] -= 1
            else:
                self.item_count = known + 1
            self.counts[state] += 1
            self.items[(*outer, item)] = state

    def start_again(self) -> None:
        """A new generation: nothing of the step has begun."""
        self.item_count = self.start_time = None
        self.failure = self.waits_for = self.came_back = self.cached = ""
        self.items.clear()
        self.counts.clear()

    def forget_failure(self) -> None:
        """It is COMPLETED, and what failed was tried again; of a map an item that was allowed to fail has failed."""
        if not self.counts["FAILED"]:
            self.failure = ""

    def expand(self, count: int) -> None:
        self.item_count = count
        self.items.clear()
        self.counts = Counter({"PENDING": count})


@dataclass(frozen=True, slots=True)
class Change:
    """One line of plain output. `subject` is "run", "step", "step[3]" or "step[3..9]"."""

    time: float
    subject: str
    state: str
    detail: str


class RunProgress:
    """The run as its events tell it, in the order of its steps."""

    def __init__(self, run_id: str, pipeline: str, steps: Iterable[str]) -> None:
        self.run_id = run_id
        self.pipeline = pipeline
        self.state = "PENDING"
        self.reason = ""
        self.start_time: float | None = None
        self.now = 0.0
        self.steps = {name: StepProgress(name) for name in steps}
        self._failed: dict[tuple[str, tuple[int, ...]], None] = {}

    @property
    def at_rest(self) -> bool:
        return self.state in RUN_AT_REST

    def first_failed(self) -> str:
        """The step run that is FAILED for the longest time, "step" or "step[3]", or ""."""
        step, place = next(iter(self._failed), ("", ()))
        return step + place_text(place)

    def apply(self, event: run_service_pb2.Event) -> list[Change]:
        """Takes one event in; what changed, in order."""
        self.now = event.time.ToNanoseconds() / 10**9
        if self.start_time is None:
            self.start_time = self.now
        waits_for = _WAITS_FOR.get(event.type, "")
        changes = [change for each in event.steps for change in self._apply_step(each, waits_for)]
        if event.run_state:
            self.state, self.reason = run_state(event.run_state), visible(event.run_reason)
            changes.append(Change(self.now, "run", self.state, first_line(self.reason)))
        elif event.type == "RunAdmitted":
            self.reason = ""
            changes.append(Change(self.now, "run", self.state, "has its place"))
        elif event.run_reason:
            # What holds it, though its state is as it was.
            self.reason = visible(event.run_reason)
            changes.append(Change(self.now, "run", self.state, first_line(self.reason)))
        elif event.type == "CostBudgetRaised":
            self.reason = ""
        return changes

    def _apply_step(self, change: run_service_pb2.StepChange, waits_for: str) -> Iterator[Change]:
        step = self.steps.setdefault(change.step, StepProgress(change.step))
        if change.HasField("expanded_count"):
            step.expand(change.expanded_count)
            yield Change(self.now, step.name, "EXPANDED", f"{change.expanded_count} items")
        if not change.state:
            yield from self._stopping(step, change)
            return
        state = step_state(change.state)
        self._note_failed(change, state)
        if change.item:
            self._apply_items(step, change, state)
        else:
            self._apply_whole(step, change, state)
        yield Change(self.now, _subject(change), state, _detail(change) or (waits_for if state == "WAITING" else ""))

    def _note_failed(self, change: run_service_pb2.StepChange, state: str) -> None:
        *outer, first = change.item or (0,)
        for item in range(first, first + max(change.item_count, 1)):
            key = change.step, (*outer, item) if change.item else ()
            if state == "FAILED":
                self._failed.setdefault(key)
            else:
                self._failed.pop(key, None)

    def _stopping(self, step: StepProgress, change: run_service_pb2.StepChange) -> Iterator[Change]:
        """What ended badly says so again with its new state; why a step run makes place for another is said once."""
        if change.failure.reason == "Displaced":
            step.failure = failure_line(change.failure)
            yield Change(self.now, _subject(change), "DISPLACED", change.failure.message)

    def _apply_whole(self, step: StepProgress, change: run_service_pb2.StepChange, state: str) -> None:
        step.state = state
        if state == "PENDING":
            step.start_again()
        step.came_back = change.reason
        step.attempt = change.attempt or step.attempt
        step.agent = change.agent_id or step.agent
        if change.HasField("failure"):
            step.failure = failure_line(change.failure)
        if change.HasField("cache_source"):
            step.cached = cache_line(change.cache_source)
        if state == "COMPLETED":
            step.forget_failure()
        if state != "READY":
            step.waits_for = ""
        if state == "RUNNING" and step.start_time is None:
            step.start_time = self.now
        step.end_time = self.now if state in STEP_AT_REST else None

    def _apply_items(self, step: StepProgress, change: run_service_pb2.StepChange, state: str) -> None:
        # The item that failed first is the one that the run's reason names: its note stays.
        if change.HasField("failure") and not step.counts["FAILED"]:
            step.failure = f"{place_text(change.item)} {failure_line(change.failure)}"
        step.set_items(tuple(change.item), max(change.item_count, 1), state)
        if change.reason:
            step.came_back = f"{place_text(change.item)} {change.reason}"
        if state == "RUNNING":
            step.waits_for = step.came_back = ""
            step.start_time = self.now if step.start_time is None else step.start_time
            step.state = "RUNNING" if step.state not in STEP_AT_REST else step.state


def place_text(place: Iterable[int]) -> str:
    return "".join(f"[{number}]" for number in place)


def _subject(change: run_service_pb2.StepChange) -> str:
    if not change.item:
        return change.step
    outer = place_text(change.item[:-1])
    first, count = change.item[-1], max(change.item_count, 1)
    span = f"[{first}]" if count == 1 else f"[{first}..{first + count - 1}]"
    return f"{change.step}{outer}{span}"


def cache_line(source: run_pb2.CacheSource) -> str:
    """Where a value came from."""
    return f"from the cache: {source.display_name} of run {source.run_id}"


def _detail(change: run_service_pb2.StepChange) -> str:
    parts = []
    if change.attempt > 1:
        parts.append(f"attempt {change.attempt}")
    if change.agent_id:
        parts.append(f"on {change.agent_id}")
    if change.HasField("failure"):
        parts.append(failure_line(change.failure))
    if change.reason:
        parts.append(first_line(change.reason))
    if change.HasField("cache_source"):
        parts.append(cache_line(change.cache_source))
    if change.HasField("wait_until"):
        parts.append(f"until {change.wait_until.ToDatetime().isoformat(timespec='milliseconds')}Z")
    return ", ".join(parts)
