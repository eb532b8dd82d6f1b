"""Behaviours that most workflow systems agree on, each played by a real coordinator and two agents."""

from __future__ import annotations

import json
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
