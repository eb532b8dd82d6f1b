"""Writes docs/states.md: every state, event and message of a run, and what leads to what.

python -m scripts.describe_states [--check]

Words are those of the code's docstrings. What leads to what is not written down anywhere: it is seen to happen, in all
that can happen to runs of small plans (tests/unit/run/exploration.py) and in the golden scripts. With --check nothing
is written; the exit code says whether the page is as it should be.
"""

from __future__ import annotations

import argparse
import ast
import enum
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import get_args

from tests.scripts.run.script import observed
from tests.unit.run.exploration import explored
from tests.unit.run.transitions import NOTHING, Observations, Subject, Transition

from penstock_coordinator.core.run import events, messages, states

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "states.md"
SCRIPTS = ROOT / "tests" / "scripts" / "run"
REMEDY = "docs/states.md is not what the code says: make states writes it"
TITLES = {
    Subject.RUN: "Runs",
    Subject.STEP: "Steps that are not mapped",
    Subject.MAP: "Mapped steps as wholes",
    Subject.ITEM: "Items of mapped steps",
}
INTRODUCTION = """\
# States and events

Written by `make states` from the code and its docstrings; a test holds that it is up to date. What leads to what was
seen to happen: every message was tried in every state of runs of small plans, and random histories are tested to do
nothing else. The words are those of the [glossary](glossary.md); [architecture](architecture.md) tells how it works.

In the tables of transitions a row is the state before, a column the state after, and a cell names the events that lead
from one to the other. Where both are the same the event is about something whose state it leaves."""


def page() -> str:
    """All of docs/states.md."""
    seen = observations()
    sections = [
        INTRODUCTION,
        _states("States of a run", states.RunState),
        _states("States of a step run", states.StepState),
    ]
    sections.append("## Transitions")
    sections += [_transitions(subject, seen) for subject in Subject]
    sections += [_events(seen), _messages(seen), "## Words in events"]
    kinds = (events.CacheMode, events.WaitReason, events.Outcome, events.Charge, events.Budget, events.Reopening)
    sections += [_words(kind) for kind in kinds]
    return "\n\n".join(sections) + "\n"


@cache
def observations() -> Observations:
    """What was seen to happen."""
    seen = Observations()
    seen.add(explored())
    for path in sorted(SCRIPTS.glob("*.txt")):
        seen.add(observed(path.read_text(encoding="utf-8")))
    return seen


def documented(text: str) -> set[Transition]:
    """The transitions that a page names."""
    found = set()
    for subject, title in TITLES.items():
        section = text.partition(f"### {title}\n\n")[2].partition("\n\n")[0]
        head, _, *rows = (line.strip("|").split("|") for line in section.splitlines())
        for first, *cells in rows:
            for after, cell in zip(head[1:], cells, strict=True):
                names = re.findall(r"`(\w+)`", cell)
                found |= {Transition(subject, _plain(first), name, _plain(after)) for name in names}
    return found


def _plain(cell: str) -> str:
    return cell.strip(" `")


# --- states


def _states(title: str, kind: type[enum.IntEnum]) -> str:
    meanings, subjects = _member_docs(states)[kind.__name__], _subjects(kind)
    reached = {each.after for each in observations().transitions if each.subject in subjects}
    rows = []
    for member in kind:
        unreached = "" if member.name in reached else " Nothing leads to it."
        rows.append((str(member.value), f"`{member.name}`", meanings.get(member.name, "") + unreached))
    return f"## {title}\n\n" + _table(("number", "state", "means"), rows)


def _subjects(kind: type[enum.IntEnum]) -> set[Subject]:
    return {Subject.RUN} if kind is states.RunState else set(Subject) - {Subject.RUN}


def _transitions(subject: Subject, seen: Observations) -> str:
    mine = [each for each in seen.transitions if each.subject is subject]
    kind = states.RunState if subject is Subject.RUN else states.StepState
    order = [NOTHING, *(member.name for member in kind)]
    befores = [state for state in order if any(each.before == state for each in mine)]
    afters = [state for state in order if any(each.after == state for each in mine)]
    tags = _tags()
    rows = []
    for before in befores:
        cells = []
        for after in afters:
            names = sorted(
                (each.event for each in mine if (each.before, each.after) == (before, after)), key=tags.__getitem__
            )
            cells.append(_code(names))
        rows.append((f"`{before}`", *cells))
    return f"### {TITLES[subject]}\n\n" + _table(("from", *(f"`{after}`" for after in afters)), rows)


# --- events and messages


def _events(seen: Observations) -> str:
    rows = []
    for name, tag in _tags().items():
        kind = getattr(events, name)
        causes = [message for message in _message_names() if (message, name) in seen.causes]
        duties = sorted(command for event, command in seen.duties if event == name)
        rows.append((str(tag), f"`{name}`", _meaning(kind), _fields(kind), _all_but(causes), _code(duties)))
    head = ("tag", "event", "means", "fields", "seen in a turn with", "obliges to")
    return "## Events\n\n" + _table(head, rows)


def _messages(seen: Observations) -> str:
    rows = []
    for name in _message_names():
        kind = getattr(messages, name)
        answers = sorted(command for message, command in seen.answers if message == name)
        rows.append((f"`{name}`", _meaning(kind), _fields(kind), _code(answers)))
    text = "A turn begins with a message. Commands are what the coordinator has to do once the turn is committed."
    return f"## Messages\n\n{text}\n\n" + _table(("message", "says", "fields", "commands"), rows)


def _tags() -> dict[str, int]:
    """Of events, in their order."""
    tags = {kind.__name__: kind.__struct_config__.tag for kind in get_args(events.Event)}
    return dict(sorted(tags.items(), key=lambda found: found[1]))


def _message_names() -> list[str]:
    return [kind.__name__ for kind in get_args(messages.Message)]


def _all_but(causes: list[str]) -> str:
    """Where it is nearly all messages, those that it is not."""
    others = [name for name in _message_names() if name not in causes]
    if len(others) < len(causes):
        return "any but " + _code(others) if others else "any"
    return _code(causes)


def _fields(kind: type) -> str:
    """Each with what the code says of it. The first is the instant, in all of them."""
    docs = _member_docs(_module(kind)).get(kind.__name__, {})
    _, *names = inspect.signature(kind).parameters
    spelled = [f"`{name}`" + (f" ({docs[name].rstrip('.')})" if name in docs else "") for name in names]
    return ", ".join(spelled)


def _words(kind: type[enum.IntEnum]) -> str:
    docs = _member_docs(events).get(kind.__name__, {})
    rows = [(str(member.value), f"`{member.name}`", docs.get(member.name, "")) for member in kind]
    return f"### {kind.__name__}\n\n{_meaning(kind)}\n\n" + _table(("number", "word", "means"), rows)


# --- text


def _meaning(kind: type) -> str:
    text = _own_docs(_module(kind)).get(kind.__name__, "")
    assert text, f"{kind.__name__} needs a docstring: what does it mean?"
    return text


def _module(kind: type) -> ModuleType:
    return sys.modules[kind.__module__]


def _flat(text: str) -> str:
    """In one line, fit for a cell."""
    return " ".join(text.split()).replace("|", "\\|")


@cache
def _own_docs(module: ModuleType) -> dict[str, str]:
    return {node.name: _flat(ast.get_docstring(node) or "") for node in _classes(module)}


@cache
def _member_docs(module: ModuleType) -> dict[str, dict[str, str]]:
    """By class and member: the text below the member."""
    return {node.name: dict(_texts(node.body)) for node in _classes(module)}


def _classes(module: ModuleType) -> list[ast.ClassDef]:
    return [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef)]


def _texts(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for member, text in pairwise(body):
        match member, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                yield name, _flat(said)


def _code(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.describe_states")
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is up to date")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.stderr.write(REMEDY + "\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
