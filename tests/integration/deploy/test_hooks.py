"""Hooks of git: parts of `make check`."""

from __future__ import annotations

import re

import yaml
from tests.e2e.compose_without_docker.definition import ROOT


def test_each_part_of_the_check_is_in_a_hook_and_in_the_check_of_all() -> None:
    script = (ROOT / "scripts/check.sh").read_text(encoding="utf-8")
    parts = set(re.findall(r"^check_(\w+)\(\)", script, flags=re.MULTILINE))
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    of_hooks = [hook["entry"].split() for hook in hooks["hooks"]]
    assert all(words[0] == "scripts/check.sh" for words in of_hooks)
    assert {part for words in of_hooks for part in words[1:]} == parts
    (default,) = re.findall(r"\$\{\*:-([\w ]+)\}", script)
    assert set(default.split()) == parts
    assert all(hook["language"] == "system" for hook in hooks["hooks"])
