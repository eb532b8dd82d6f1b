"""What `logging` shows of a step, in a process of its own as a worker is one."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOWN = "from penstock_agent.executors.worker.user_logging import show_from_info\n"


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stderr


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import logging\nshow_from_info()\nlogging.getLogger('etl').info('seen')", "INFO etl: seen\n"),
        ("import logging\nshow_from_info()\nlogging.getLogger('etl').debug('unseen')", ""),
        (
            "import logging\nshow_from_info()\nlogging.basicConfig(level='ERROR', format='%(message)s')\n"
            "logging.warning('unseen'); logging.error('mine')",
            "mine\n",
        ),
        (
            "import logging\nlogging.basicConfig(format='mine %(message)s')\nshow_from_info()\n"
            "logging.info('unseen'); logging.warning('seen')",
            "mine seen\n",
        ),
        ("show_from_info()\nimport sys\nassert 'logging' not in sys.modules", ""),
    ],
    ids=["info", "no debug", "configured later", "configured before", "not imported"],
)
def test_what_is_shown(code: str, expected: str) -> None:
    assert said(SHOWN + code) == expected
