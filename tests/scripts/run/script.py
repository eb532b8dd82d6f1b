"""Golden scripts of the run core: a plan, stimuli, and what each of them leads to.

    plan fail_fast timeout=60s
    step a retry=3 backoff=1s
    step b after=a map=[1,2]

    > start
      StepsReadied a
      -> GrantLeases ...

A line that begins with `>` is a stimulus; the indented lines below it are what the run made of it: events, then
commands (`->`). A `#` begins a comment that is kept. Instants are since the start of the script.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tests.scripts.run.situation import StagedSituation
from tests.unit.run.driver import Driver
from tests.unit.run.plans import SECOND, Node, build, parameter, several, values, when
from tests.unit.run.transitions import Observations

from penstock_coordinator.core.plan.budget import NO_PRICES, Amounts, CostBudget, OnExceeded, Prices
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS, RunLimits
from penstock_coordinator.core.plan.model import Plan, Retry, Timeouts, TriggerRule
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.commands import Command
from penstock_coordinator.core.run.events import WHOLE, Budget, Charge, Failure, MadeArtifact, Outcome
from penstock_coordinator.core.run.explain import explain, explain_open, explain_run
from penstock_coordinator.core.run.ledger import TURN_LIMIT, Ledger
from penstock_coordinator.core.run.messages import (
    AdmitRun,
    AttemptEnded,
    AttemptReport,
    CancelRun,
    ChildRefused,
    ChildReported,
    ClockTick,
    Continue,
    DisplaceReady,
    DisplaceStep,
    InputsUnresolved,
    LeaseGone,
    Message,
    PauseRun,
    RaiseBudget,
    RequeueSteps,
    RerunStep,
    ResumeRun,
    RetryRun,
    RollbackRun,
    SlotsOffered,
    StartRun,
    ValueAwaited,
    ValueFound,
    ValueMissing,
)
from penstock_coordinator.core.run.places import item_at
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.spans import spelled
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState


def play(text: str) -> str:
    """The script with what really happens under each stimulus."""
    script = Script(text)
    return script.play()


def observed(text: str) -> Observations:
    """What the script was seen to do to the states."""
    script = Script(text)
    script.play()
    return script.observations


class Script:
    def __init__(self, text: str) -> None:
        self._lines = [line.rstrip() for line in text.splitlines()]
        plan, limit, limits, prices = _parse_plan(self._lines)
        self._driver = Driver(plan, limit, limits, prices)
        self._versions = _parse_versions(self._lines)
        self._out: list[str] = []
        self._situation = StagedSituation()

    @property
    def observations(self) -> Observations:
        return self._driver.observations

    def play(self) -> str:
        for line in self._lines:
            if line.startswith("> "):
                self._out.append(line)
                self._stimulate(line[2:])
            elif not line.startswith(" "):
                self._out.append(line)
        return "\n".join(self._out).rstrip("\n") + "\n"

    def _stimulate(self, text: str) -> None:
        verb, *rest = shlex.split(text, posix=True) if "{" not in text and "[" not in text else text.split(" ")
        if verb == "resume":
            self._print([], resume(self._again()))
            return
        if verb == "at":
            self._driver.now = _span(rest[0])
            return
        if verb == "agent":
            self._situation.add_agent(rest)
            return
        if verb == "note":
            self._situation.noted = " ".join(rest)
            return
        if verb == "key":
            self._situation.set_key(rest)
            return
        if verb == "window":
            self._situation.set_window(rest)
            return
        if verb == "explain":
            self._explain(rest[0] if rest else "")
            return
        if verb == "start":
            ledger = self._driver.send(self._start(rest))
        elif verb in ("renew", "undo"):
            ledger = self._renew(rest, undo=verb == "undo")
        else:
            ledger = self._driver.send(self._message(verb, rest))
        self._print([event for _, event in ledger.events], ledger.commands)
        if ledger.refusal:
            self._out.append(f"  refused: {ledger.refusal}")

    def _start(self, rest: list[str]) -> Message:
        """`start [PARAMETERS] [held=KEY:LIMIT] [refused=WHY] [over=WHY] [cache=MODE]`"""
        words = [word for word in rest if "=" not in word]
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        return StartRun(
            self._driver.now,
            (words[0] if words else "{}").encode(),
            held=_held(options),
            refused=options.get("refused", ""),
            over=options.get("over", ""),
            cache=e.CacheMode[options.get("cache", "USE")],
        )

    def _renew(self, rest: list[str], *, undo: bool) -> Ledger:
        """`renew VERSION [WHO] [WHY] [held=KEY:LIMIT]`: a retry with another version; `undo`: a rollback with it."""
        words = [word for word in rest if "=" not in word]
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        plan = _version(words[0], self._versions[words[0]], self._driver.run.plan)
        return self._driver.renew(plan, *_who_and_why(words[1:]), held=_held(options), undo=undo)

    def _explain(self, name: str) -> None:
        """Reasons, as sentences; of the run and of all that is not at rest, if no step is named."""
        run, self._situation.now = self._driver.run, self._driver.now
        if name:
            step, item = self._named(name)
            found = [explain(run, step, item, self._situation)]
        else:
            self._out += [f"  {reason.kind}: {reason.message}" for reason in explain_run(run, self._situation)]
            found, _ = explain_open(run, self._situation, 100)
        for each in found:
            count = f" and {each.count - 1} more" if each.count > 1 else ""
            self._out.append(f"  {run.display_name(each.step, each.item)}{count}, {each.state.name}")
            self._out += [f"    {reason.kind}: {reason.message}" for reason in each.reasons]

    def _named(self, name: str) -> tuple[int, int]:
        step, _, item = name.removesuffix("]").partition("[")
        run = self._driver.run
        place = [int(part) for part in item.split("][")] if item else []
        return run.plan.numbers[step], item_at(run.plan, run, run.plan.numbers[step], place)

    def _again(self) -> Run:
        """The run as a restarted coordinator folds it."""
        return self._driver.again()

    def _message(self, verb: str, rest: list[str]) -> Message:
        words = [word for word in rest if "=" not in word]
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        return getattr(self, f"_{verb}")(words, options)  # type: ignore[no-any-return]  # methods by their verbs

    # --- stimuli: `offer`, `done`, `fail`, `lost`, `unresolved`, `ended`, `refused`, `cancel`, `tick`,
    # `continue`, `admit`, `displace`

    def _offer(self, words: list[str], options: dict[str, str]) -> Message:
        run = self._driver.run
        queues = [line.queue for line in run.plan.lines]
        line = queues.index(options.get("queue", "default"))
        if "raised" in options:
            # Of the step run that asks for more memory.
            line = run.agents_line(*self._named(options["raised"]))
        session = int(options.get("session", "1"))
        return SlotsOffered(self._driver.now, line, session, f"agent-{session}", int(words[0]))

    def _done(self, words: list[str], options: dict[str, str]) -> Message:
        output = words[1] if len(words) > 1 else ""
        made = tuple(
            MadeArtifact(name, f"sha256:{name}", 1) for name in filter(None, options.get("made", "").split(","))
        )
        lease = self._lease(words[0], options)
        return AttemptEnded(
            self._driver.now, *lease, b"", 1, None, output.encode(), report=_report(options), artifacts=made
        )

    def _fail(self, words: list[str], options: dict[str, str]) -> Message:
        outcome = Outcome[options.get("outcome", "FAILED")]
        failure = Failure(options.get("reason", "UserError"), " ".join(words[1:]), options.get("class", ""))
        return AttemptEnded(
            self._driver.now,
            *self._lease(words[0], options),
            b"",
            1,
            outcome,
            failure=failure,
            error_bases=tuple(filter(None, options.get("bases", "").split(","))),
            jitter=float(options.get("jitter", "0")),
            report=_report(options),
            memory_most=int(options.get("most", "0")),
        )

    def _lost(self, words: list[str], options: dict[str, str]) -> Message:
        charge = Charge[options.get("charge", "INFRASTRUCTURE")]
        boot = options.get("boot", "")
        return LeaseGone(self._driver.now, *self._lease(words[0], options), "expired", charge, boot=boot)

    def _unresolved(self, words: list[str], options: dict[str, str]) -> Message:
        lease = self._lease(words[0], options)
        return InputsUnresolved(self._driver.now, *lease, Failure("Input", " ".join(words[1:])))

    def _cancel(self, words: list[str], options: dict[str, str]) -> Message:
        return CancelRun(self._driver.now, words[0] == "now", " ".join(words[1:]))

    def _pause(self, words: list[str], options: dict[str, str]) -> Message:
        """`pause WHO [WHY]`, or `pause above=INSTANT`: since when the run above is paused."""
        above = _span(options["above"]) if "above" in options else None
        return PauseRun(self._driver.now, words[0] if words else "", " ".join(words[1:]), above)

    def _unpause(self, words: list[str], options: dict[str, str]) -> Message:
        """`unpause WHO`, or `unpause above=gone`"""
        return ResumeRun(self._driver.now, words[0] if words else "", "above" in options)

    def _retry(self, words: list[str], options: dict[str, str]) -> Message:
        """`retry [WHO] [WHY] [held=KEY:LIMIT]`"""
        return RetryRun(self._driver.now, *_who_and_why(words), held=_held(options))

    def _rollback(self, words: list[str], options: dict[str, str]) -> Message:
        """`rollback [WHO] [WHY] [held=KEY:LIMIT]`"""
        return RollbackRun(self._driver.now, *_who_and_why(words), held=_held(options))

    def _rerun(self, words: list[str], options: dict[str, str]) -> Message:
        """`rerun STEP [WHO] [WHY]`"""
        step, item = self._named(words[0])
        return RerunStep(self._driver.now, step, item, *_who_and_why(words[1:]), held=_held(options))

    def _requeue(self, words: list[str], options: dict[str, str]) -> Message:
        """`requeue STEP,STEP... [WHO] [WHY] [failed_in=GENERATION,...]`"""
        targets = tuple(self._named(name) for name in words[0].split(","))
        failed_in = tuple(int(each) for each in options["failed_in"].split(",")) if "failed_in" in options else ()
        who_and_why, held = _who_and_why(words[1:]), _held(options)
        return RequeueSteps(self._driver.now, targets, *who_and_why, held=held, failed_in=failed_in)

    def _ended(self, words: list[str], options: dict[str, str]) -> Message:
        """`ended STEP STATE [OUTPUT | WHY] [run=OTHER]`, of the run that the step waits for, or of another one."""
        step, item, run_id = self._child(words[0])
        run_id = options.get("run", "").encode() or run_id
        state, said = RunState[words[1]], " ".join(words[2:])
        done = state is RunState.COMPLETED
        failure = None if done else Failure("SubPipeline", said)
        return ChildReported(self._driver.now, step, item, run_id, state, said.encode() if done else b"", failure)

    def _refused(self, words: list[str], options: dict[str, str]) -> Message:
        return ChildRefused(self._driver.now, *self._child(words[0]), Failure("SubPipeline", " ".join(words[1:])))

    def _child(self, name: str) -> tuple[int, int, bytes]:
        step, item = self._named(name)
        return step, item, self._driver.run.children.get((step, item), b"nobody")

    def _found(self, words: list[str], options: dict[str, str]) -> Message:
        """`found STEP OUTPUT [token=TOKEN]`: the cache has the value."""
        source = e.CacheSource(bytes(15) + b"\x07", "other", 2, 0, b"k")
        return ValueFound(self._driver.now, *self._question(words[0], options), words[1].encode(), source)

    def _missing(self, words: list[str], options: dict[str, str]) -> Message:
        """`missing STEP [KEY] [why=WHY] [token=TOKEN]`: the key is reserved, unless there is a reason."""
        key, why = (words[1] if len(words) > 1 else "").encode(), options.get("why", "")
        question = self._question(words[0], options)
        return ValueMissing(self._driver.now, *question, key, bool(key) and not why, why)

    def _awaited(self, words: list[str], options: dict[str, str]) -> Message:
        """`awaited STEP BY [token=TOKEN]`: another run computes it."""
        question = self._question(words[0], options)
        return ValueAwaited(self._driver.now, *question, bytes(15) + b"\x07", words[1])

    def _question(self, name: str, options: dict[str, str]) -> tuple[int, int, int]:
        step, item = self._named(name)
        lookup = self._driver.run.lookups.get((step, item))
        return step, item, int(options.get("token", lookup.token if lookup is not None else 0))

    def _tick(self, words: list[str], options: dict[str, str]) -> Message:
        self._driver.now = _span(words[0])
        return ClockTick(self._driver.now, _span(options.get("open", "0")))

    def _continue(self, words: list[str], options: dict[str, str]) -> Message:
        self._driver.continues = max(self._driver.continues - 1, 0)
        return Continue(self._driver.now)

    def _admit(self, words: list[str], options: dict[str, str]) -> Message:
        """`admit [held=KEY:LIMIT] [refused=WHY]`"""
        return AdmitRun(self._driver.now, _held(options), options.get("refused", ""))

    def _raise(self, words: list[str], options: dict[str, str]) -> Message:
        """`raise [WHO] [WHY] [slot=SPAN] [cpu=SPAN] [price=NUMBER]`"""
        return RaiseBudget(self._driver.now, *_amounts(options), *_who_and_why(words))

    def _displace(self, words: list[str], options: dict[str, str]) -> Message:
        """A step run that holds a lease, or all that is READY on a queue."""
        if "queue" in options:
            queues = [line.queue for line in self._driver.run.plan.lines]
            return DisplaceReady(self._driver.now, queues.index(options["queue"]), options["key"], options["by"])
        return DisplaceStep(self._driver.now, *self._named(words[0]), options["key"], options["by"])

    def _lease(self, name: str, options: dict[str, str]) -> tuple[int, int, int]:
        """The lease that the step run holds, unless a token is given."""
        number, position = self._named(name)
        active = self._driver.run.active_step(number, position)
        return number, position, int(options.get("token", active.token if active is not None else 0))

    # --- what is printed

    def _print(self, events: list[e.Event], commands: list[Command]) -> None:
        self._out += [f"  {self._spell(event)}" for event in events]
        self._out += [f"  -> {self._spell(command)}" for command in commands]

    def _spell(self, thing: Any) -> str:
        words = [type(thing).__name__]
        fields = thing.__struct_fields__ if hasattr(thing, "__struct_fields__") else thing.__slots__
        for name in fields:
            word = self._field(thing, name, getattr(thing, name))
            if word:
                words.append(word)
        return " ".join(words)

    def _field(self, thing: Any, name: str, value: Any) -> str:
        run = self._driver.run
        if name == "line" and value < len(run.plan.lines):
            return ""
        if name in _HIDDEN or value in (None, "", b"", ()) or value is Budget.NONE:
            return ""
        if name == "version_digest":
            return "" if value == FIRST_VERSION or not isinstance(thing, e.RunReopened) else f"version={value}"
        if name == "kept" and isinstance(thing, e.RunReopened):
            texts = (f"{run.plan.steps[step].name}{_at(item)}:{_texts(parts)}" for step, item, parts in value)
            return "kept=" + ",".join(texts)
        if name == "run_id":
            return f"run={value.hex()[-4:]}"
        if name == "step":
            return run.display_name(value, getattr(thing, "item", WHOLE))
        if name == "ranges":
            return " ".join(_spell_range(run, thing, *found) for found in value)
        if name == "steps":
            return " ".join(_spell_range(run, None, *found) for found in value)
        if name == "items":
            return " ".join(
                run.display_name(step) + _spell_range(run, _Mapped(step), *found)
                for step, ranges in value
                for found in ranges
            )
        if name == "attempts" and isinstance(value, tuple):
            return "used=" + ",".join(f"{run.plan.steps[step].name}{_at(item)}#{count}" for step, item, count in value)
        if name == "step_runs":
            return " ".join(run.display_name(step, item) for step, item in value)
        if name == "questions":
            return " ".join(run.display_name(step, item) + ("!" if anew else "") for step, item, anew in value)
        if name == "anew":
            return "anew=" + ",".join(run.display_name(step, item) for step, item in value)
        if value is e.CacheMode.USE:
            return ""
        if isinstance(value, e.CacheSource):
            return f"from={value.run_id.hex()[-4:]}/{value.display_name}#{value.attempt}"
        if name == "leases":
            return " ".join(f"{run.display_name(step, item)}#{attempt}" for step, item, attempt in value)
        if name in ("until", "deadline"):
            return f"{name}={spelled(value)}"
        return _spell_value(name, value)


def _held(options: dict[str, str]) -> tuple[str, int] | None:
    key, _, limit = options.get("held", "").rpartition(":")
    return (key, int(limit)) if key else None


def _report(options: dict[str, str]) -> AttemptReport:
    """`ran=SPAN`, `cpu=SPAN`, `exit=CODE`"""
    exit_code = int(options["exit"]) if "exit" in options else None
    return AttemptReport(_span(options.get("ran", "0")), _span(options.get("cpu", "0")), exit_code=exit_code)


def _who_and_why(words: list[str]) -> tuple[str, str]:
    return words[0] if words else "", " ".join(words[1:])


FIRST_VERSION = "0" * 64
_HIDDEN = {"at", "item", "semantics", "result_id", "session"}


class _Mapped(NamedTuple):
    step: int


def _at(item: int) -> str:
    return "" if item == WHOLE else f"[{item}]"


def _spell_range(run: Run, thing: Any, first: int, stop: int) -> str:
    mapped = hasattr(thing, "step")
    if mapped:
        return f"[{first}]" if stop == first + 1 else f"[{first}..{stop - 1}]"
    return run.display_name(first) if stop == first + 1 else f"{run.display_name(first)}..{run.display_name(stop - 1)}"


def _texts(parts: tuple[bytes, ...]) -> str:
    return ",".join(part.decode() for part in parts)


def _spell_value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return (name if value else "") if name != "reported" and name != "ready" else ("" if value else f"not-{name}")
    if isinstance(value, Failure):
        return f"{value.reason}({value.message})" if value.message else value.reason
    if name == "kept":
        return "kept=" + _texts(value)
    if isinstance(value, bytes):
        return value.decode()
    if name == "grace":
        return f"grace={spelled(value)}"
    if hasattr(value, "name"):
        return str(value.name)
    return f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"


# --- the plan ---------------------------------------------------------------------------------------------------------


def _parse_plan(lines: list[str]) -> tuple[Plan, int, RunLimits, Prices]:
    end = next((at for at, line in enumerate(lines) if line.startswith("version ")), len(lines))
    nodes: list[Node] = []
    settings: dict[str, Any] = {}
    limit, limits, prices = TURN_LIMIT, DEFAULT_RUN_LIMITS, NO_PRICES
    for line in lines[:end]:
        words = shlex.split(line, posix=False) if line.startswith(("plan", "step ")) else []
        if words[:1] == ["plan"]:
            options = _options(words[1:])
            limit = int(options.pop("turn", TURN_LIMIT))
            given = {name: int(options.pop(name)) for name in ("items", "output_bytes", "losses") if name in options}
            prices = Prices(*(float(each) for each in options.pop("prices", "0").split(",")))
            limits = replace(limits, **given)
            settings = {name: _SETTINGS[name](value) for name, value in options.items()}
        elif words:
            numbers = {node.name: number for number, node in enumerate(nodes)}
            nodes.append(_parse_node(words[1], _options(words[2:]), numbers))
    return build(nodes, **settings), limit, limits, prices


def _parse_versions(lines: list[str]) -> dict[str, list[list[str]]]:
    """Below a line `version NAME [SETTINGS]` are its steps. By name the words of all these lines."""
    found: dict[str, list[list[str]]] = {}
    block: list[list[str]] | None = None
    for line in lines:
        words = shlex.split(line, posix=False) if line.startswith(("version ", "step ")) else []
        if words[:1] == ["version"]:
            block = found[words[1]] = []
        if words and block is not None:
            block.append(words)
    return found


def _version(name: str, lines: list[list[str]], former: Plan) -> Plan:
    """The version for a run of `former`."""
    (_, _, *settings), *steps = lines
    names = [step.name for step in former.steps]
    names += [words[1] for words in steps if words[1] not in names]
    numbers = {name: number for number, name in enumerate(names)}
    nodes = [_parse_node(words[1], _options(words[2:]), numbers) for words in steps]
    chosen = {name: _SETTINGS[name](value) for name, value in _options(settings).items()}
    return build(nodes, **chosen, digest=name, onto=former)


def _options(words: list[str]) -> dict[str, str]:
    return {name: value.strip("'") for name, _, value in (word.partition("=") for word in words)}


def _parse_node(name: str, options: dict[str, str], numbers: dict[str, int]) -> Node:
    known = {"after", "rule", "when", "map", "retry", "backoff", "jitter", "on", "never", "queued", "overall", "queue"}
    known |= {
        "allow_failure",
        "cleanup",
        "parallel",
        "zip",
        "child",
        "code",
        "losses",
        "undoes",
        "cache",
        "memory",
        "factor",
        "environment",
    }
    assert options.keys() <= known, options
    retry = Retry(
        max_attempts=int(options.get("retry", "1")),
        max_losses=int(options.get("losses", "0")),
        initial_backoff=_span(options.get("backoff", "1s")),
        jitter=float(options.get("jitter", "0")),
        memory_factor=float(options.get("factor", "1")),
        retry_on=_names(options.get("on", "")),
        never_retry_on=_names(options.get("never", "")),
    )
    limits = {kind: _span(options[kind]) for kind in ("queued", "overall") if kind in options}
    return Node(
        name,
        _names(options.get("after", "")),
        rule=TriggerRule[options["rule"].upper()] if "rule" in options else None,
        when=when(options["when"]) if "when" in options else None,
        over=_source(options["map"], numbers, options) if "map" in options else None,
        parallel=int(options.get("parallel", "0")),
        retry=retry,
        timeouts=Timeouts(**limits),
        queue=options.get("queue", "default"),
        memory_bytes=int(options.get("memory", "0")),
        environment=options.get("environment", ""),
        allow_failure="allow_failure" in options,
        cleanup="cleanup" in options,
        child=options.get("child", ""),
        code=options.get("code", "1"),
        undoes=options.get("undoes", ""),
        cache="cache" in options,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _source(text: str, numbers: dict[str, int], options: dict[str, str]) -> Any:
    """A list, `$name` for a parameter, `name` for the output of a step, `name.path` for a part of it; `x:LIST;y:LIST`
    for several lists. See `Node.over` for more."""
    if ":[" in text or ":$" in text or ";" in text:
        parts = (part.partition(":") for part in text.split(";"))
        lists = {name: _source(each, {}, {}) for name, _, each in parts}
        return several(numbers, zipped="zip" in options, parallel=int(options.get("parallel", "0")), **lists)
    if text.startswith("["):
        return values(*json.loads(text))
    return parameter(text[1:]) if text.startswith("$") else text


def _span(text: str) -> int:
    for unit, size in (("ms", 1_000), ("us", 1), ("min", 60 * SECOND), ("s", SECOND)):
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * size)
    return int(text)


def _budget(text: str) -> CostBudget:
    """`slot=10s,cpu=5s,price=2,stop`, or less of it."""
    options = _options(text.split(","))
    action = OnExceeded.STOP if "stop" in options else OnExceeded.HOLD
    return CostBudget(_amounts(options), on_exceeded=action)


def _amounts(options: dict[str, str]) -> Amounts:
    price = int(float(options.get("price", "0")) * 1e6)
    return Amounts(_span(options.get("slot", "0")), _span(options.get("cpu", "0")), price)


_SETTINGS: dict[str, Callable[[str], Any]] = {
    "outputs": lambda text: tuple(text.split(",")),
    "timeout": _span,
    "stop_grace": _span,
    "max_parallel": int,
    "fail_fast": lambda _: True,
    "rolls_back": lambda _: True,
    "budget": _budget,
}
