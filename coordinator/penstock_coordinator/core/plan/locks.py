"""Lock files: which exact files an environment is made of.

Each file is named by a digest: what an agent installs tomorrow is what was locked today, or nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.requirements import BadRequirement, canonical_requirement

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_PIN = re.compile(r"[a-z0-9-]+(?:\[[^\]]*\])?==[^=,*;]+(?:;.*)?")
_COMPILE = "write the file with `uv pip compile --generate-hashes`"
_EXPORT = "write the file with `uv export --format pylock.toml`"
_ELSEWHERE = ("vcs", "directory", "archive")
_FILES = ("wheels", "sdist")


def canonical_requirements_lock(text: str) -> str:
    """One line for each requirement, sorted, without comments; hashes sorted. Raises `BadRequirement`."""
    lines = sorted({_canonical_line(line) for line in _logical_lines(text)})
    if not lines:
        raise BadRequirement(f"the lock file names no package: {_COMPILE}, or leave it out")
    return "\n".join(lines) + "\n"


def canonical_pylock(text: str) -> str:
    """The text with Unix line ends. Raises `BadRequirement`."""
    text = text.replace("\r\n", "\n").strip() + "\n"
    try:
        said = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadRequirement(f"the lock file is no TOML ({error}): {_EXPORT}") from None
    packages = said.get("packages")
    if not isinstance(said.get("lock-version"), str) or not isinstance(packages, list):
        raise BadRequirement(f"the lock file has no `lock-version` and no `packages`: {_EXPORT}")
    for package in packages:
        _check_package(package)
    return text


def _logical_lines(text: str) -> Iterator[str]:
    """Without comments, continued ones joined."""
    joined = ""
    for line in text.splitlines():
        part = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if part.endswith("\\"):
            joined += part[:-1] + " "
            continue
        if (joined + part).strip():
            yield (joined + part).strip()
        joined = ""
    if joined.strip():
        yield joined.strip()


def _canonical_line(line: str) -> str:
    if line.startswith("-"):
        raise BadRequirement(
            f"{quoted(line)} is an option: lock what it names into one file without options; where packages come from "
            "is a setting of the agents (UV_INDEX_URL)"
        )
    said, *hashes = re.split(r"\s+(?=--)", line)
    requirement = canonical_requirement(said)
    if not _PIN.fullmatch(requirement):
        raise BadRequirement(f"{quoted(said)} is not pinned to one version (==): {_COMPILE}")
    found = [_HASH.fullmatch(each.strip()) for each in hashes]
    strange = [each for each, match in zip(hashes, found, strict=True) if match is None]
    if strange:
        raise BadRequirement(f"{quoted(strange[0])} of {quoted(said)} is no --hash=sha256:...: {_COMPILE}")
    if not found:
        raise BadRequirement(f"{quoted(said)} has no --hash=sha256:...: {_COMPILE}")
    return " ".join([requirement, *sorted({each.strip() for each in hashes})])


def _check_package(package: object) -> None:
    if not isinstance(package, dict) or not isinstance(package.get("name"), str):
        raise BadRequirement(f"a package of the lock file has no name: {_EXPORT}")
    name = package["name"]
    for kind in _ELSEWHERE:
        if kind in package:
            raise BadRequirement(
                f"the package {quoted(name)} comes from a {kind}, which is no index: publish it to one"
            )
    files = [package.get(kind, []) for kind in _FILES]
    listed = [file for each in files for file in (each if isinstance(each, list) else [each])]
    if not listed:
        raise BadRequirement(f"the package {quoted(name)} has neither wheels nor an sdist: {_EXPORT}")
    for file in listed:
        hashes = file.get("hashes") if isinstance(file, dict) else None
        if not (isinstance(hashes, dict) and isinstance(hashes.get("sha256"), str)):
            raise BadRequirement(f"a file of the package {quoted(name)} has no SHA-256: {_EXPORT}")
        if isinstance(file, dict) and "path" in file:
            raise BadRequirement(
                f"a file of the package {quoted(name)} is a path, which agents do not have: publish it"
            )
