"""Every alert has a page that says what to do, and what the page says can be done."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.unit.monitoring import monitoring_files as files

from penstock.cli.main import COMMANDS, LazyCommands

NAMES = sorted({alert["alert"] for alert in files.alerts()})
SECTIONS = ["What it means", "How to see it", "What to do", "How to know that it is over"]
PAGES = (*files.RUNBOOKS, *files.OPERATIONS)
PROCESSES = {"server": {"", "server", "migrate", "rotate-signing-key", "config"}, "agent": {""}}
"""Commands of the coordinator and the agent, whose arguments the command line passes on."""
LAST_WORDS = re.compile(r"[;|&>]|\s#\s")
"""Where a command of a shell ends."""


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert [path.stem for path in files.RUNBOOKS] == NAMES


def test_every_alert_says_how_bad_it_is_and_where_its_runbook_is() -> None:
    for alert in files.alerts():
        told = alert["annotations"]
        assert alert["labels"]["severity"] in {"page", "ticket", "none"}, alert["alert"]
        assert told["summary"].endswith("."), alert["alert"]
        assert told["description"].endswith("."), alert["alert"]
        assert told["runbook_url"] == "{{ $externalLabels.runbook_base }}docs/runbooks/" + f"{alert['alert']}.md"


def test_every_alert_is_tried() -> None:
    tried = "".join(path.read_text(encoding="utf-8") for path in files.RULE_TESTS)
    assert [name for name in NAMES if f'alertname="{name}"' not in tried] == []


@pytest.mark.parametrize("path", files.RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_its_sections_and_says_how_urgent_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^# (.+)$", text, re.MULTILINE) == [path.stem]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    severities = {alert["labels"]["severity"] for alert in files.alerts() if alert["alert"] == path.stem}
    first = text.split("\n\n")[1].lower()
    assert {word for word in ("page", "ticket", "none") if f"**{word}**" in first.replace(".**", "**")} >= (
        severities - {"none"}
    )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_of_penstock_exists(path: Path) -> None:
    for line in commands(path):
        problem = what_is_wrong(shlex.split(line, comments=True)[1:])
        assert not problem, f"{line}: {problem}"


def test_a_command_that_does_not_exist_is_found() -> None:
    assert what_is_wrong(["dead-letters", "list", "--budget", "poison"]) == ""
    assert what_is_wrong(["server", "migrate"]) == ""
    assert what_is_wrong(["mend"]) == "there is no mend"
    assert what_is_wrong(["agents", "mend"]) == "there is no mend"
    assert what_is_wrong(["agents", "list", "--dead"]) == "there is no --dead"
    assert what_is_wrong(["server", "mend"]) == "there is no mend"


def commands(path: Path) -> Iterator[str]:
    """What begins with `penstock` in blocks for a shell and in the text."""
    text = path.read_text(encoding="utf-8")
    lines = [line for block in files.blocks(path, "sh") for line in block.replace("\\\n", " ").splitlines()]
    spoken = re.findall(r"`(penstock [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    for line in [*lines, *(each.replace("\n", " ") for each in spoken)]:
        command = re.sub(r"^(\w+=\S+ )*", "", line.strip())
        if command.startswith("penstock "):
            yield LAST_WORDS.split(command)[0]


def what_is_wrong(words: list[str]) -> str:
    """About the arguments of `penstock`; "": nothing."""
    if words[0] in PROCESSES:
        told = words[1] if len(words) > 1 and not words[1].startswith("-") else ""
        return "" if told in PROCESSES[words[0]] else f"there is no {told}"
    command: click.Command = LazyCommands("penstock")
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        if found is None:
            return f"there is no {words[0]}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--address", "--json", "--help"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"there is no {unknown[0]}" if unknown else ""


def test_there_are_commands_to_look_at() -> None:
    assert sum(1 for path in PAGES for _ in commands(path)) > 60
    assert PROCESSES.keys() <= COMMANDS.keys()
