"""Random pipelines with random behaviours. The same seed makes the same ones.

What would hang on who was first is left out: a step that may start before all of its upstream is at rest (the `one_*`
rules and `always`) reads nothing of that upstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

from tests.e2e.random_dags.dags import Behaviour, Dag, Expression, Json, Map, Retry, Source, Step
from tests.e2e.random_dags.rules import LOOK_AT_ITEMS, RULES

MOST_ITEMS = 24
"""Of one step, as far as the generator can tell."""
LONGEST_LIST = 4
HANG_TIMEOUT = 0.3
FATES = {
    "plain": 45, "pause": 12, "retry": 20, "fail_fast": 5, "cancel": 5, "cancel_now": 4, "cancel_and_retry": 9,
}  # fmt: skip
_ERRORS = ("ValueError", "KeyError", "RuntimeError")
_FILTERS = ("ValueError", "LookupError", "KeyError", "Crash", "Timeout", "ExitCode:3", "RuntimeError")
_SIGNS = ("==", "!=", "<", "<=", ">", ">=")
_STATES = ("COMPLETED", "COMPLETED", "FAILED", "SKIPPED", "UPSTREAM_FAILED")
_WAITING = tuple(rule for rule in RULES if rule not in (*LOOK_AT_ITEMS, "always"))

_T = TypeVar("_T")


def children(random: Random, prefix: str) -> dict[str, Dag]:
    """Small pipelines that others may be runs of. Later ones may be runs of earlier ones."""
    made: dict[str, Dag] = {}
    for number in range(5):
        name = f"{prefix}-child-{number}"
        made[name] = _Drawing(random, name, list(made) if number > 2 else [], "plain", small=True).dag()
    return made


def dag(random: Random, name: str, child_names: Sequence[str]) -> Dag:
    fate = random.choices(list(FATES), list(FATES.values()))[0]
    return _Drawing(random, name, child_names, fate).dag()


@dataclass(frozen=True)
class _Known:
    """What the generator remembers of a step that it made."""

    step: Step
    gives: str
    """A kind of output, as in behaving.py; `child` and `command` besides."""
    size: int
    """At most so many items."""
    levels: int = 0


@dataclass
class _Drawing:
    random: Random
    name: str
    child_names: Sequence[str]
    fate: str
    small: bool = False
    known: list[_Known] = field(default_factory=list)
    trouble: float = 1.0
    """How much goes wrong."""

    def dag(self) -> Dag:
        random = self.random
        self.trouble = random.choice((0.0, 0.1, 0.4, 1.0))
        parameters = self._parameters()
        for number in range(random.randint(2, 5) if self.small else random.randint(5, 22)):
            self._add(f"{random.choice(('s', 's', 'step-', 'x.'))}{number}")
        plain = len(self.known)
        for number in range(random.choice((0, 0, 0, 1, 2))):
            self._add_cleanup(f"cleanup{number}", plain)
        made = Dag(
            name=self.name,
            steps=tuple(each.step for each in self.known),
            parameters=parameters,
            max_parallel=random.choice((0, 0, 0, 1, 3)),
            fail_fast=self.fate == "fail_fast",
            fate=self.fate,
        )
        return self._with_output(made, self.known[:plain])

    def _parameters(self) -> dict[str, Json]:
        random = self.random
        return {
            "p": random.randint(0, 9),
            "q": random.randint(0, 999),
            "zero": 0,
            "text": random.choice(("full", "part")),
            "days": self._list(),
        }

    def _with_output(self, made: Dag, known: list[_Known]) -> Dag:
        random = self.random
        wanted = random.choice(("none", "output", "outputs") if not self.small else ("output", "outputs"))
        if wanted == "output":
            return replace(made, output=self._source(random.choice(known)))
        if wanted == "outputs":
            return replace(made, outputs={f"o{at}": self._source(random.choice(known)) for at in range(2)})
        return made

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _list(self) -> list[int]:
        return [self.random.randint(0, 99) for _ in range(self.random.choice((0, 1, 2, 2, 3, LONGEST_LIST)))]

    # --- steps

    def _add(self, name: str) -> None:
        random = self.random
        followed = self._to_follow() if self._chance(0.3) else None
        rule = "all_success" if self._chance(0.45) else random.choice(RULES)
        if followed and rule == "always":
            rule = "all_done"
        upstream = self._some_known()
        if rule == "always" and not upstream:
            rule = "all_success"
        blind = followed is None and rule not in _WAITING
        over, size, levels = self._map(followed, blind, rule in _WAITING)
        inputs, depends_on = self._links(upstream, blind, over)
        step = Step(name, Behaviour(), inputs, depends_on, rule, map=over)
        self._finish(step, blind, size, levels)

    def _finish(self, step: Step, blind: bool, size: int, levels: int) -> None:
        step, gives = self._with_action(step, levels)
        mapped = step.map is not None
        readable = [] if blind else [each for each in self.known if each.step.name in step.upstream]
        if self._chance(0.15 + 0.15 * self.trouble):
            step = replace(step, when=self._condition(readable, step.map if mapped and self._chance(0.6) else None))
        step = replace(step, allow_failure=self._chance(0.15))
        self.known.append(_Known(step, gives, size, levels))

    def _add_cleanup(self, name: str, plain: int) -> None:
        upstream = self._some_known(self.known[:plain]) if self._chance(0.4) else []
        rule = self.random.choice(("all_done", "all_done", "all_success", "none_failed")) if upstream else "all_done"
        inputs, depends_on = self._links(upstream, False, None)
        self._finish(Step(name, Behaviour(), inputs, depends_on, rule, cleanup=True), not upstream, 1, 0)

    def _some_known(self, known: Sequence[_Known] | None = None) -> list[_Known]:
        known = self.known if known is None else known
        count = min(len(known), self.random.choice((0, 1, 1, 2, 2, 3)))
        recent = known[-8:] if len(known) > 8 and self._chance(0.8) else known
        return self.random.sample(list(recent), min(count, len(recent)))

    def _links(
        self, upstream: list[_Known], blind: bool, over: Map | None
    ) -> tuple[dict[str, Source], tuple[str, ...]]:
        random, inputs = self.random, {}
        depends_on = []
        for number, each in enumerate(upstream):
            if blind or self._chance(0.35):
                depends_on.append(each.step.name)
            else:
                inputs[f"in{number}"] = self._source(each, likely_whole=0.8)
        if self._chance(0.4):
            inputs["parameter"] = Source("parameter", random.choice(("p", "q", "text", "days")))
        if over is not None and self._chance(0.85):
            path = (random.choice(over.names),) if over.names and self._chance(0.5) else ()
            inputs["item"] = Source("item", path=path)
        return inputs, tuple(depends_on)

    def _source(self, known: _Known, likely_whole: float = 0.6) -> Source:
        if self._chance(likely_whole) or not self._chance(self.trouble + 0.1):
            return Source("step", known.step.name)
        if known.gives == "command" and known.step.map is None:
            return Source("step", known.step.name, ("given",))
        path = ("0",) if known.step.map is not None or known.gives == "list" else (self.random.choice(("n", "rows")),)
        return Source("step", known.step.name, path)

    # --- maps

    def _to_follow(self) -> _Known | None:
        mapped = [each for each in self.known if each.step.map is not None]
        return self.random.choice(mapped[-6:]) if mapped else None

    def _map(self, followed: _Known | None, blind: bool, waits: bool) -> tuple[Map | None, int, int]:
        """With the most items that it may have, and its levels."""
        random = self.random
        bound = random.choice((0, 0, 0, 1, 2))
        if followed is not None:
            source = Source("step", followed.step.name)
            nested = self._nested(followed, source, bound)
            kind = random.choice(("follow", "follow", "joined", "nested"))
            if kind == "nested" and nested:
                return nested
            if kind == "joined" and waits:
                return Map("joined", (source,), max_parallel=bound), followed.size, 1
            return Map("follow", (source,), max_parallel=bound), followed.size, followed.levels
        if not self._chance(0.35):
            return None, 1, 0
        if self._chance(0.7):
            source, size = self._listed(blind)
            return Map("list", (source,), max_parallel=bound), size, 1
        pairs = [self._listed(blind) for _ in range(2)]
        return self._combined(pairs, bound)

    def _nested(self, followed: _Known, source: Source, bound: int) -> tuple[Map, int, int] | None:
        if followed.gives not in ("rows", "list") or followed.levels > 2 or followed.size * 4 > MOST_ITEMS:
            return None
        path = ("rows",) if followed.gives == "rows" else ()
        return Map("nested", (replace(source, path=path),), max_parallel=bound), followed.size * 4, followed.levels + 1

    def _combined(self, pairs: list[tuple[Source, int]], bound: int) -> tuple[Map, int, int]:
        sources, names = tuple(source for source, _ in pairs), ("x", "y")
        size = pairs[0][1] * pairs[1][1]
        if size <= MOST_ITEMS and self._chance(0.5):
            return Map("product", sources, names, bound), size, 1
        if self._chance(1.0 - 0.3 * self.trouble):
            both = [Source("value", value=[self.random.randint(0, 9) for _ in range(3)]) for _ in range(2)]
            sources = tuple(both)
        return Map("zip", sources, names, bound), LONGEST_LIST, 1

    def _listed(self, blind: bool) -> tuple[Source, int]:
        """A list, or what is none after all."""
        listing = [each for each in self.known if each.step.map is None and each.gives in ("list", "rows")]
        if not blind and listing and self._chance(0.55):
            chosen = self.random.choice(listing)
            path = ("rows",) if chosen.gives == "rows" and not self._chance(0.2 * self.trouble) else ()
            return Source("step", chosen.step.name, path), LONGEST_LIST
        if self._chance(0.3):
            return Source("parameter", "days"), LONGEST_LIST
        return Source("value", value=self._list()), LONGEST_LIST

    # --- behaviours

    def _with_action(self, step: Step, levels: int) -> tuple[Step, str]:
        random = self.random
        steady = self.fate == "cancel_and_retry" or (self.fate == "retry" and levels > 1)
        if self.child_names and self._chance(0.06) and (step.map is None or step.map.kind == "list"):
            return self._as_child(step), "child"
        retry = self._retry()
        if not step.inputs and step.map is None and self._chance(0.05):
            outcomes = tuple(each.replace("crash", "exit:3") for each in self._outcomes(("exit:3",), steady))
            action = Behaviour((outcomes,), constant={"n": random.randint(0, 99)}, command=True)
            return replace(step, action=action, retry=retry), "command"
        gives = random.choice(("digest", "digest", "list", "rows", "rows", "text", "constant"))
        kinds = random.choice((1, 1, 1, 3)) if step.map else 1
        by_place = tuple(self._outcomes((random.choice(_ERRORS),), steady) for _ in range(kinds))
        constant = random.choice((None, True, 7, "seven", [1, 2], {"n": 5, "rows": [3]}))
        step = replace(step, action=Behaviour(by_place, gives, constant), retry=retry)
        if self._chance(0.015 * self.trouble) and step.map is None:
            hanging = Behaviour((("hang",),), gives, constant)
            step = replace(step, action=hanging, retry=replace(retry, max_attempts=1), attempt_timeout=HANG_TIMEOUT)
        return step, gives

    def _as_child(self, step: Step) -> Step:
        inputs = dict(step.inputs)
        renamed = dict(zip(("p", "q", "text", "days"), inputs.values(), strict=False))
        retry = Retry(self.random.choice((1, 1, 2)))
        return replace(step, action=self.random.choice(list(self.child_names)), inputs=renamed, retry=retry)

    def _retry(self) -> Retry:
        random = self.random
        retry_on = tuple(random.sample(_FILTERS, 3)) if self._chance(0.15) else ()
        never = tuple(random.sample(_FILTERS, 1)) if self._chance(0.15) else ()
        return Retry(random.choice((1, 1, 2, 3)), retry_on, never)

    def _outcomes(self, failures: tuple[str, ...], steady: bool) -> tuple[str, ...]:
        """Of the attempts one after the other."""
        random = self.random
        failure = "crash" if self._chance(0.06) else random.choice(failures)
        drawn = random.random()
        if drawn > 0.4 * self.trouble + 0.02:
            return ("ok",)
        if drawn < 0.13 * self.trouble or steady:
            return (failure,)
        return (failure,) * random.randint(1, 3) + ("ok",)

    # --- conditions

    def _condition(self, readable: list[_Known], over: Map | None) -> Expression:
        drawn = self.random.random()
        if drawn < 0.15:
            sides = (self._condition(readable, over), self._condition(readable, None))
            return (self.random.choice(("and", "or")), *sides)
        if drawn < 0.22:
            return ("not", self._condition(readable, over))
        if over is not None:
            return self._about_item(over)
        if readable and drawn < 0.85:
            return self._about(self.random.choice(readable))
        return self._about_parameters()

    def _about_item(self, over: Map) -> Expression:
        random = self.random
        number = ("item", random.choice(([], [], ["n"], ["x"])) if self._chance(self.trouble) else [])
        if over.names and number[1] == ["n"]:  # what no item can have is refused with the specification
            number = ("item", [over.names[-1]])
        sign, limit = random.choice(_SIGNS), ("literal", random.randint(0, 500))
        if self._chance(0.4):
            return ("compare", "==", ("remainder", number, 2), ("literal", random.randint(0, 1)))
        return ("compare", random.choice(("==", "!=", "!=")) if self._chance(0.4) else sign, number, limit)

    def _about(self, known: _Known) -> Expression:
        random, name = self.random, known.step.name
        drawn = random.random()
        if drawn < 0.75 - 0.35 * self.trouble:
            return ("compare", random.choice(("==", "!=")), ("state", name), ("literal", random.choice(_STATES)))
        path = {"rows": ["n"], "command": ["given", "n"]}.get(known.gives, []) if known.step.map is None else [0]
        if drawn < 0.9 - 0.35 * self.trouble and known.step.map is None:
            return ("has", name, ["given", "n"] if known.gives == "command" else ["n"])
        if drawn < 0.95 - 0.2 * self.trouble:
            return ("compare", random.choice(_SIGNS), ("size", ("output", name, [])), ("literal", random.randint(0, 4)))
        sign = random.choice(_SIGNS)
        return ("compare", sign, ("output", name, path), ("literal", random.randint(0, 999)))

    def _about_parameters(self) -> Expression:
        random = self.random
        if self._chance(0.15 * self.trouble):
            return ("compare", "==", ("quotient", 1, ("parameter", "zero")), ("literal", 1))
        if self._chance(0.3):
            return ("compare", "==", ("parameter", "text"), ("literal", random.choice(("full", "part"))))
        return ("compare", random.choice(_SIGNS), ("parameter", "p"), ("literal", random.randint(0, 9)))
