"""What a Dockerfile says about how its image is run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Image:
    """Of the last stage, which the image is made of."""

    base: str = ""
    user: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    copied: dict[str, str] = field(default_factory=dict)
    """Files of the checkout by their paths in the image, where one is copied by itself."""


def read_image(dockerfile: Path) -> Image:
    """Commands that a shell would run are refused: they do not get the signals that are meant for what they start."""
    image = Image()
    for word, rest in _instructions(dockerfile.read_text(encoding="utf-8")):
        match word:
            case "FROM":
                image = Image(base=rest)
            case "USER":
                image.user = rest
            case "COPY" if not rest.startswith("--"):
                source, *_, target = rest.split()
                image.copied[target] = source
            case "ENV":
                image.environment.update(re.findall(r"(\w+)=(\S+)", rest))
            case "ENTRYPOINT":
                image.entrypoint = _words(rest)
            case "CMD":
                image.command = _words(rest)
            case "HEALTHCHECK":
                image.healthcheck = _words(rest.partition("CMD ")[2])
    return image


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def _words(given: str) -> list[str]:
    words: Any = json.loads(given)
    assert isinstance(words, list)
    return words
