"""rsyslog with the configuration of deploy/logs, as a process of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.debian import rsyslogd

DEPLOY = Path(__file__).parents[3] / "deploy" / "logs"
PATIENCE = 60.0


@contextmanager
def shipping(logs: Path, state: Path, store: str) -> Iterator[None]:
    """All files of the folder, to the store of this URL. It remembers in `state` how far it has come."""
    state.mkdir(exist_ok=True)
    parts = urlsplit(store)
    passwords = state / "pgpass"
    passwords.write_text(f"*:*:*:*:{parts.password}\n")
    passwords.chmod(0o600)
    command, environment = rsyslogd()
    places = {
        "LOG_FILES": f"{logs}/*.log",
        "LOG_STATE": str(state),
        "PGHOST": str(parts.hostname),
        "PGPORT": str(parts.port),
        "PGUSER": str(parts.username),
        "PGDATABASE": parts.path[1:],
        "PGPASSFILE": str(passwords),
    }
    with (state / "said").open("ab") as said:
        process = subprocess.Popen(
            [*command, "-n", "-i", str(state / "pid"), "-f", str(DEPLOY / "rsyslog.conf")],
            env={"PATH": os.environ["PATH"], **environment, **places},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
        assert process.poll() is None, (state / "said").read_text()
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
