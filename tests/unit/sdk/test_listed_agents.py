"""What the command line says of agents."""

from __future__ import annotations

import pytest

from penstock.cli.agents import show
from penstock.cli.session import Session
from penstock.v1 import agent_admin_service_pb2 as pb


def _printed(capsys: pytest.CaptureFixture[str], agent: pb.Agent) -> str:
    show(Session(None, as_json=False), [agent])
    return capsys.readouterr().out


def test_links_are_named_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert "LINKS" not in _printed(capsys, pb.Agent(id="a"))
    printed = _printed(capsys, pb.Agent(id="a", links=["c2@7", "c3@8"]))
    assert "LINKS" in printed
    assert "c2" in printed
    assert "@7" not in printed
