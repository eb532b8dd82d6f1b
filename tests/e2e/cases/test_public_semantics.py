"""Behaviours that most workflow systems agree on, each played by a real coordinator and two agents."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.cases.case_runs import play
from tests.e2e.cases.case_verdicts import differences

if TYPE_CHECKING:
    from penstock.client.sync import SyncClient

CASES = json.loads((Path(__file__).parents[2] / "cases" / "semantics_public.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[each["id"] for each in CASES])
def test_a_public_behaviour(client: SyncClient, tmp_path: Path, case: dict[str, Any]) -> None:
    played = play(client, case["given"], tmp_path, meet=case["expect"].get("overlap", ()))
    assert differences(played, case["expect"]) == []


def test_all_public_behaviours_at_once(client: SyncClient, tmp_path: Path) -> None:
    """On one system, in any order: none of them is another one beside the others."""
    seed = random.randrange(2**32)
    shuffled = random.Random(seed).sample(CASES, len(CASES))

    def found(case: dict[str, Any]) -> list[str]:
        played = play(client, case["given"], tmp_path / case["id"], meet=case["expect"].get("overlap", ()))
        return differences(played, case["expect"])

    with ThreadPoolExecutor(len(shuffled)) as players:
        wrong = {case["id"]: each for case, each in zip(shuffled, players.map(found, shuffled), strict=True) if each}
    assert wrong == {}, f"in the order of the seed {seed}"
