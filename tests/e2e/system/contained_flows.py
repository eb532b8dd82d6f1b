"""Pipelines whose steps run in containers."""

from __future__ import annotations

from typing import Any

from penstock import Stdout, command, context, pipeline, step

IMAGE = "localhost/penstock-test:1"


@step
def doubled(number: int) -> dict[str, Any]:
    print("doubling")
    return {"number": 2 * number, "step": context.current().step}


@pipeline(defaults={"container": IMAGE})
def contained(number: int) -> None:
    first = doubled(number)
    command(
        name="told",
        shell='echo "$PENSTOCK_INPUT_NUMBER"',
        inputs={"number": first["number"]},
        outputs={"said": Stdout()},
    )
    command(name="outside", shell="true", container=False)


@pipeline
def unserved() -> None:
    command(name="waits", shell="true", container=IMAGE)
