"""Prometheus and the Alertmanager with the configuration, rules and example of deploy/, on ports of their own.

What is changed in copies of them is that all goes faster, and the addresses: a scrape each second, windows of seconds,
alerts after one, no mail.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.debian import program
from tests.rig.parts import until

from penstock.dev.ports import take_port

DEPLOY = Path(__file__).parents[3] / "deploy"
WINDOW, PAUSE = "15s", "1s"
PATIENCE = 60.0
RECEIVER = "http://127.0.0.1:9095"
"""Of the example."""


def hurried(text: str) -> str:
    """An expression, or a file of rules, whose windows are seconds."""
    text = text.replace("$__rate_interval", WINDOW)
    text = re.sub(r"\[\w+:\w+\]", f"[{WINDOW}:{PAUSE}]", text)
    text = re.sub(r"\[\w+\]", f"[{WINDOW}]", text)
    text = re.sub(r"\boffset \w+", f"offset {PAUSE}", text)
    text = re.sub(r"^( +for:) \w+$", rf"\1 {PAUSE}", text, flags=re.MULTILINE)
    return re.sub(r"^ +interval: \w+\n", "", text, flags=re.MULTILINE)


class Prometheus:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, **parameters: str | float) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{query}", timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def samples(self, expr: str, since: float, to: float) -> int:
        """How many there are between two instants, in seconds since 1970."""
        found = self.ask("/api/v1/query_range", query=expr, start=since, end=to, step=1)
        return sum(len(series["values"]) for series in found["result"])

    def now(self, expr: str) -> list[Any]:
        found: list[Any] = self.ask("/api/v1/query", query=expr)["result"]
        return found

    def value(self, expr: str) -> float | None:
        found = self.now(expr)
        return float(found[0]["value"][1]) if found else None


@contextmanager
def running_prometheus(folder: Path, targets: Mapping[str, Sequence[str]], alertmanager: int) -> Iterator[Prometheus]:
    """`targets` are those of each job of deploy/prometheus/prometheus.yml that is to be scraped."""
    rules = folder / "rules"
    rules.mkdir(parents=True)
    for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        (rules / path.name).write_text(hurried(path.read_text()))
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    settings["global"] |= {"scrape_interval": PAUSE, "evaluation_interval": PAUSE}
    settings["rule_files"] = [f"{rules}/*.yml"]
    settings["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
    jobs = {job["job_name"]: job for job in settings["scrape_configs"]}
    settings["scrape_configs"] = [
        jobs[name] | {"static_configs": [{"targets": list(addresses)}]} for name, addresses in targets.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = take_port(0, "")
    with _running(
        folder,
        f"http://127.0.0.1:{port}/-/ready",
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        # An alert that fires before the Alertmanager is known to Prometheus is sent again after so long.
        f"--rules.alert.resend-delay={PAUSE}",
    ):
        yield Prometheus(port)


@contextmanager
def running_alertmanager(folder: Path, receiver: str) -> Iterator[int]:
    """Its port. The webhooks of the example come to `receiver`."""
    folder.mkdir(parents=True)
    settings = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text().replace(RECEIVER, receiver))
    for each in settings["receivers"]:
        each.pop("email_configs", None)
    for route in (settings["route"], *settings["route"]["routes"]):
        route |= {"group_wait": PAUSE, "group_interval": PAUSE}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(settings))
    port = take_port(0, "")
    with _running(
        folder,
        f"http://127.0.0.1:{port}/-/ready",
        program("alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ):
        yield port


@contextmanager
def _running(folder: Path, ready: str, *command: str) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True)
    try:
        until(lambda: process.poll() is not None or _answers(ready), PATIENCE, ready)
        assert process.poll() is None, (folder / "log").read_text(errors="replace")[-2_000:]
        yield
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0):
            return True
    except OSError:
        return False
