"""What a Python environment holds, in one canonical form: equal environments have equal texts.

Requirements are those of PEP 508 that an index can answer. What names a place in place of an index (a URL, a path, an
editable folder) is refused: an agent elsewhere would find something else there, or nothing.
"""

from __future__ import annotations

import re

from penstock_coordinator.core.plan.markers import BadMarker, canonical_marker
from penstock_coordinator.core.plan.naming import quoted

LONGEST = 1_024
"""Characters of one requirement."""
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_HEAD = re.compile(rf"({_NAME})\s*(?:\[([^\[\]]*)\])?\s*")
_EXTRA = re.compile(_NAME)
_RUNS = re.compile(r"[-_.]+")
_SPECIFIER = re.compile(
    r"(===|==|!=|~=|<=|>=|<|>)\s*"
    r"(v?(?:\d+!)?\d+(?:\.\d+)*"
    r"(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?"
    r"(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?"
    r"(?:[-_.]?dev[-_.]?\d*)?"
    r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?"
    r"(?:\.\*)?)",
    re.IGNORECASE,
)
_BARE_VERSION = re.compile(r"\d+(?:\.\d+){0,2}")
_FILES = (".whl", ".tar.gz", ".zip", ".tgz", ".txt", ".toml")
INDEX = "name a package of an index, such as 'pandas>=2,<3'"


class BadRequirement(Exception):
    """What is wrong with it, and the remedy."""


def canonical_requirement(text: str) -> str:
    """`name[extra,...]specifiers; marker`: lower case, sorted, without spaces that do not count. Raises
    `BadRequirement`."""
    text = text.strip()
    _refuse_places(text)
    head = _HEAD.match(text)
    if head is None:
        raise BadRequirement(f"{quoted(text)} does not begin with the name of a package: {INDEX}")
    name, extras = head.group(1), head.group(2)
    versions, semicolon, marker = text[head.end() :].partition(";")
    if versions.startswith("@"):
        raise BadRequirement(f"{quoted(text)} names a URL: {INDEX}, and tell the agents of an index that has it")
    versions = versions.strip()
    if versions.startswith("(") and versions.endswith(")"):
        versions = versions[1:-1]
    found = canonical_name(name) + _extras(text, extras) + canonical_specifiers(versions, text)
    return f"{found}; {_marker(text, marker)}" if semicolon else found


def canonical_name(name: str) -> str:
    """As PEP 503 compares names."""
    return _RUNS.sub("-", name).lower()


def canonical_specifiers(versions: str, told: str) -> str:
    """Sorted, joined with commas; empty: any version. Raises `BadRequirement` about `told`."""
    if not versions.strip():
        return ""
    parts: set[str] = set()
    for part in versions.split(","):
        found = _SPECIFIER.fullmatch(part.strip())
        if found is None:
            what = quoted(part.strip() or versions)
            raise BadRequirement(f"in {quoted(told)} {what} says no version: use ==, !=, ~=, <, <=, >, >= and a number")
        parts.add(found.group(1) + found.group(2).lower().removeprefix("v"))
    return ",".join(sorted(parts))


def canonical_python(text: str) -> str:
    """Specifiers of Python's version; "3.12" means any 3.12. Raises `BadRequirement`."""
    text = text.strip()
    if _BARE_VERSION.fullmatch(text):
        return f"=={text}" if text.count(".") == 2 else f"=={text}.*"
    try:
        return canonical_specifiers(text, text)
    except BadRequirement:
        remedy = "use a version ('3.12') or bounds of it ('>=3.11,<3.14')"
        raise BadRequirement(f"{quoted(text)} says no version of Python: {remedy}") from None


def _refuse_places(text: str) -> None:
    if not text:
        raise BadRequirement(f"it is empty: {INDEX}")
    if len(text) > LONGEST:
        raise BadRequirement(f"it has {len(text):,} characters, past the limit of {LONGEST:,}: {INDEX}")
    if not (text.isascii() and text.isprintable()):
        raise BadRequirement(f"{quoted(text)} has a character that is no printable ASCII: {INDEX}")
    if text.startswith(("-e ", "-e.", "-e/", "--editable")):
        raise BadRequirement(f"{quoted(text)} is an editable folder, which agents do not have: {INDEX}")
    if text.startswith("-"):
        raise BadRequirement(f"{quoted(text)} is an option, which is for the agents' settings: {INDEX}")
    if "://" in text.partition(";")[0] or text.lower().startswith(("git+", "file:")):
        raise BadRequirement(f"{quoted(text)} names a URL: {INDEX}, and tell the agents of an index that has it")
    package = text.partition(";")[0].strip().lower()
    if text.startswith((".", "/", "~", "\\")) or "/" in package or package.endswith(_FILES):
        raise BadRequirement(f"{quoted(text)} is a path, which agents do not have: {INDEX}")


def _extras(text: str, extras: str | None) -> str:
    names = [name.strip() for name in (extras or "").split(",") if extras and extras.strip()]
    for name in names:
        if not _EXTRA.fullmatch(name):
            raise BadRequirement(f"in {quoted(text)} {quoted(name)} is no name of an extra: use letters and digits")
    return f"[{','.join(sorted({canonical_name(name) for name in names}))}]" if names else ""


def _marker(text: str, marker: str) -> str:
    try:
        return canonical_marker(marker)
    except BadMarker as error:
        raise BadRequirement(f"in {quoted(text)} the marker after ';' does not hold: {error}") from None
