"""A pipeline whose specification is kept as golden YAML."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from penstock import ArtifactFile, Concurrency, File, Retry, Stdout, TriggerRule, command, pipeline, step, unmapped


class TransientError(Exception):
    pass


class Timeout(Exception):  # the name is what the test is about
    pass


@step
def extract(path: str, limit: int = 10) -> dict[str, Any]:
    """Read the parts.

    More about it.
    """
    return {"rows": [path] * limit, "meta": {"source": path}}


@step(
    retries=2,
    timeout="5m",
    queued_timeout=60,
    overall_timeout=timedelta(hours=1, milliseconds=250),
    queue="heavy",
    labels={"zone": "eu"},
    cpu=2,
    memory="2GiB",
    gpu=0.5,
    resources={"tpu": 1},
    env={"MODE": "fast"},
    priority=-3,
    concurrency="warehouse",
)
async def transform(item: str, factor: int, table: Any = None) -> str:
    return item * factor


@step(
    name="joined",
    description="Put it together.",
    retry=Retry(
        max_attempts=5,
        initial_backoff="250ms",
        multiplier=3,
        max_backoff=90,
        jitter=0,
        retry_on=[TransientError, ValueError, "ExitCode:3", Timeout],
        never_retry_on=KeyError,
    ),
    trigger_rule=TriggerRule.ALL_DONE,
    allow_failure=True,
    when="size(steps.transform.output) > 0",
)
def join(parts: list[str], total: int, options: dict[str, Any]) -> str:
    return ",".join(parts)


@step(cleanup=True)
def clean(**found: Any) -> None:
    pass


@pipeline(
    timeout="1h30m",
    max_parallel=8,
    fail_fast=True,
    priority=20,
    weight=2.5,
    max_active_runs=4,
    concurrency=Concurrency(expression="'load-' + string(params.count)", limit=2, policy="cancel_oldest"),
    labels={"team": "data"},
    stop_grace=5,
    allow_pickle=["extract"],
    defaults={"retries": 1, "timeout": 30, "queue": "default", "env": {"A": "1"}, "memory": "512MiB"},
)
def everything(  # type: ignore[no-untyped-def]  # one parameter has no annotation, which is any value
    path: str,
    items: list[int],
    count: int = 3,
    share: float = 1,
    flag: bool = False,
    table: dict[str, Any] = {},  # noqa: B006  # a default of the pipeline
    anything: Any = None,
    whatever=("a", 1),
) -> None:
    """Every option once."""
    first = extract(path)
    second = extract.options(name="second", cpu=1)("fixed", limit=count)
    rows = first["rows"]
    mapped = transform.map(rows, 2, table=unmapped(second["meta"]["source"]))
    again = transform.map(item=items, factor=count)
    third = transform.map(["x", "y"], factor=3).after(second, "extract")
    result = join(mapped, count, {"$ref": "${not}", "deep": [1, 2.5, None, True]})
    command("shell", shell="echo hi\nexit 3", success_exit_codes=[0, 3], depends_on=[again, result])
    command(
        "program",
        argv=["python", "-c", "print(1)"],
        inputs={"rows": rows[0], "third": third},
        outputs={"text": Stdout(), "rows": File("out.json", json=True), "model": ArtifactFile("out/model")},
        input_files={"third": "in/third.json"},
        retries=0,
    )
    clean(a=result, b=1)
