"""Writes the tables of docs/configuration.md from the typed places of the settings: `make settings-docs`.

With `--check` it writes nothing, and ends with exit code 1 where the page differs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from penstock.settings import ClientSettings
from penstock_agent import settings as agent
from penstock_coordinator import settings as coordinator

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"


def tables() -> dict[str, str]:
    """By the name of the section."""
    return {
        "server": "\n".join(_table(coordinator.Settings.model_fields, _of_coordinator)),
        "agent": "\n".join(_table(agent.AgentSettings.model_fields, _of_agent)),
        "client": "\n".join(_table(ClientSettings.model_fields, _of_client)),
    }


def with_tables(page: str) -> str:
    """The page with the tables of today between its marks."""
    for section, table in tables().items():
        begin, end = f"<!-- settings of {section} -->", "<!-- end of settings -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise SystemExit(f"{PAGE.name}: {begin} and {end} have to be there once")
        page = pattern.sub(lambda _: f"{begin}\n{table}\n{end}", page)  # noqa: B023  # called at once
    return page


def _table(fields: Mapping[str, FieldInfo], described: Any) -> Iterator[str]:
    yield "| environment | name in the file | flag | default | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in sorted(fields.items()):
        variables, flag, default = described(name, field)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "default" in extra:
            default = str(extra["default"])
        elif field.is_required():
            default = "must be set"
        elif default:
            default = f"`{default}`"
        meaning = (field.description or "").replace("|", "\\|")
        shown = ", ".join(f"`{each}`" for each in variables)
        yield f"| {shown} | `{name}` | {f'`{flag}`' if flag else ''} | {default} | {meaning} |"


def _of_coordinator(name: str, field: FieldInfo) -> tuple[tuple[str, ...], str, str]:
    variable = coordinator.variable(name)
    flag = "" if coordinator.is_secret(name) else _flag(name, field)
    default = "" if field.is_required() else coordinator.shown(field.get_default(call_default_factory=True))
    return (variable,), flag, default


def _of_agent(name: str, field: FieldInfo) -> tuple[tuple[str, ...], str, str]:
    flags = {"queues": "--queue", "labels": "--label", "resources": "--resource"}
    default = agent.shown(field.get_default(call_default_factory=True))
    return agent.variables(name), flags.get(name) or _flag(name, field), default


def _of_client(name: str, field: FieldInfo) -> tuple[tuple[str, ...], str, str]:
    default = "" if field.default is None or field.annotation is SecretStr else str(field.default)
    return (f"PENSTOCK_{name.upper()}",), "--address" if name == "address" else "", default


def _flag(name: str, field: FieldInfo) -> str:
    flag = name.replace("_", "-")
    return f"--[no-]{flag}" if field.annotation is bool else f"--{flag}"


def main() -> int:
    before = PAGE.read_text()
    after = with_tables(before)
    if "--check" in sys.argv[1:]:
        return int(before != after)
    PAGE.write_text(after)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
