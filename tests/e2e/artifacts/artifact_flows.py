"""Pipelines whose steps make and take artifacts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # it has no types

from penstock import Artifact, ArtifactFile, Stdout, command, context, pipeline, step

PLACES = {"first": {"place": "first"}, "second": {"place": "second"}}
"""Labels of the two agents: what one makes the other takes, so bytes travel."""


@step(labels=PLACES["first"])
def load(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"number": range(rows), "text": [f"row {number}" for number in range(rows)]})


@step(labels=PLACES["second"])
def double(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(number=table["number"] * 2)


@step(labels=PLACES["first"])
def total(table: pd.DataFrame) -> dict[str, Any]:
    return {"sum": int(table["number"].sum()), "last": str(table["text"].iloc[-1])}


@pipeline
def frames(rows: int) -> Any:
    return total(double(load(rows)))


@step(labels=PLACES["first"], name="kinds")
def every_kind(rows: int) -> dict[str, Any]:
    return {
        "frame": pd.DataFrame({"number": range(rows)}),
        "arrays": [np.arange(rows), np.zeros((2, 2))],
        "bytes": b"raw" * rows,
        "text": Artifact.value("größe", codec="text"),
        "score": 0.9,
        "pickled": {1, 2, 3},
    }


@pipeline(allow_pickle=["kinds"])
def kinds(rows: int) -> Any:
    every_kind(rows)


@step(labels=PLACES["first"])
def write(size: int) -> dict[str, Any]:
    block = os.urandom(1 << 16)
    summed = hashlib.sha256()
    with Path("model.bin").open("wb") as file:
        for start in range(0, size, len(block)):
            summed.update(block[: size - start])
            file.write(block[: size - start])
    folder = Path("tree")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file.txt").write_text("from afar")
    made = Artifact.file("model.bin", metadata={"epochs": 3})
    return {"model": made, "trees": [Artifact.dir(folder)], "digest": summed.hexdigest()}


@step(labels=PLACES["second"])
def read(model: Artifact, trees: list[Artifact], digest: str) -> dict[str, Any]:
    with model.open() as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it is opened as binary
    return {
        "same": found == digest == model.digest.removeprefix("sha256:"),
        "size": model.size,
        "metadata": model.metadata,
        "tree": (trees[0].path / "deep" / "file.txt").read_text(),
    }


@pipeline
def files(size: int) -> Any:
    written = write(size)
    return read(written["model"], written["trees"], written["digest"])


@step(labels=PLACES["first"])
def many(count: int) -> list[dict[str, Any]]:
    return [{"number": number, "text": "x" * 100} for number in range(count)]


@step(labels=PLACES["second"])
def large_part(item: dict[str, Any]) -> dict[str, Any]:
    return {"number": item["number"], "text": item["text"] * 500}


@step(labels=PLACES["first"], when="steps.many.output[0].number == 0")
def join(parts: list[dict[str, Any]], first: dict[str, Any]) -> list[int]:
    return [sum(part["number"] for part in parts), sum(len(part["text"]) for part in parts), first["number"]]


@pipeline
def large(count: int) -> Any:
    """A list that is not inline is mapped over, looked into by a condition and a path; nor are the items' outputs."""
    listed = many(count)
    return join(large_part.map(listed), listed[0])


@pipeline
def commands(size: int) -> Any:
    written = write(size)
    made = command(
        "sum",
        shell="sha256sum in/model.bin | cut -d' ' -f1 > sum\nmkdir out\ncp in/settings.json tree/deep/file.txt out/",
        inputs={"model": written["model"], "settings": {"quality": 80}, "tree": written["trees"][0]},
        input_files={"model": "in/model.bin", "settings": "in/settings.json", "tree": "tree"},
        outputs={"sum": ArtifactFile("sum"), "out": ArtifactFile("out")},
        labels=PLACES["second"],
    )
    return command(
        "show",
        shell="cat $PENSTOCK_INPUT_SUM $PENSTOCK_INPUT_OUT/settings.json; cat $PENSTOCK_INPUT_OUT/file.txt",
        inputs={"sum": made["sum"], "out": made["out"], "digest": written["digest"]},
        outputs={"said": Stdout()},
        labels=PLACES["first"],
    )


@step(labels=PLACES["first"], retries=3)
def stubborn(size: int, flag: str) -> Artifact:
    """Says which attempt it is before it returns."""
    Path("big.bin").write_bytes(os.urandom(1 << 20) * (size >> 20))
    with Path(flag).open("a") as file:
        file.write(f"{context.current().attempt}\n")
    return Artifact.file("big.bin")


@step(labels=PLACES["second"])
def weigh(model: Artifact) -> int:
    return model.path.stat().st_size


@pipeline
def killed(size: int, flag: str) -> Any:
    return weigh(stubborn(size, flag))
