"""The image that a step names: a name that an engine can ask a registry for."""

from __future__ import annotations

import re

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.validation.report import Report

LONGEST_IMAGE = 512
LONGEST_NAME = 255
MOST_SHOWN = 80
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,128}))?"
)
_FORM = "[REGISTRY[:PORT]/]NAME[:TAG][@sha256:DIGEST], such as python:3.12-slim or registry.example.com/team/train:7"


def check_container(report: Report, field: str, container: pb.Container) -> None:
    if not container.image:
        report.add(f"{field}.image", f"it is missing: name an image as {_FORM}")
    elif (problem := _problem(container.image)) is not None:
        report.add(f"{field}.image", f"{_short(container.image)} {problem}")
    if container.pull not in pb.PullPolicy.values():
        report.add(f"{field}.pull", f"{container.pull} is unknown: use MISSING, ALWAYS or NEVER")


def _short(image: str) -> str:
    return repr(image if len(image) <= MOST_SHOWN else f"{image[:MOST_SHOWN]}…")


def _problem(image: str) -> str | None:
    if len(image) > LONGEST_IMAGE:
        return f"has {len(image):,} characters, past the limit of {LONGEST_IMAGE}"
    found = _IMAGE.fullmatch(image)
    if found is not None:
        long = len(found["name"]) > LONGEST_NAME
        return f"has a name of more than {LONGEST_NAME} characters: use a shorter one" if long else None
    if _IMAGE.fullmatch(image.strip()):
        return "has blanks around it: leave them out"
    if _IMAGE.fullmatch(image.lower()):
        return f"has capitals in its name, which no registry takes: use {image.lower()!r}"
    if "://" in image:
        return "is an address: leave out what stands before the registry's host"
    return f"is no name of an image: use {_FORM}"
