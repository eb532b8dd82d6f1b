"""Requirements that a file says itself, in a block of comments as PEP 723 has it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from penstock.authoring.requirements import RequirementsUse
from penstock.errors import DefinitionError

# The expression is that of the standard.
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_OWN = re.compile(r"\s*penstock\s*(?:\[[^\]]*\])?\s*(?:[=<>!~(;@].*)?", re.IGNORECASE)
_FIELD = "# /// script"


def requirements_in(file: Path) -> RequirementsUse | None:
    """None: the file says nothing of them. Penstock itself is left out: agents bring it along.

    DefinitionError: the block cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    blocks = [match for match in _BLOCK.finditer(text) if match["type"] == "script"]
    if not blocks:
        return None
    if len(blocks) > 1:
        raise DefinitionError(f"{file.name} has several script blocks", field=_FIELD, remedy="leave one")
    return _requirements(file, _parsed(file, blocks[0]["content"]))


def _parsed(file: Path, content: str) -> dict[str, Any]:
    lines = [line[2:] if line.startswith("# ") else line[1:] for line in content.splitlines()]
    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(
            f"the script block of {file.name} is no TOML: {error}", field=_FIELD, remedy="mend the block of comments"
        ) from None


def _requirements(file: Path, said: dict[str, Any]) -> RequirementsUse | None:
    packages, python = said.get("dependencies", []), said.get("requires-python", "")
    if not (isinstance(packages, list) and all(isinstance(each, str) for each in packages)):
        raise DefinitionError(
            f"the dependencies of {file.name} are no list of texts", field=f"{_FIELD}: dependencies",
            remedy='write dependencies = ["pandas>=2"]',
        )  # fmt: skip
    if not isinstance(python, str):
        raise DefinitionError(
            f"requires-python of {file.name} is no text", field=f"{_FIELD}: requires-python", remedy='write ">=3.11"'
        )
    needed = tuple(each for each in packages if not _OWN.fullmatch(each))
    return RequirementsUse(needed, python=python) if needed or python else None
