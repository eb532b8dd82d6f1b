"""Which digit did somebody write? A model is trained, promoted if it is good enough, and used on what nobody has seen.

1,797 handwritten digits of 8 by 8 pixels, the data set that scikit-learn comes with. Every step is answered from the
cache if its code and its inputs are those of a step that ran before.

    penstock run examples/ml/digits.py:training
    penstock get RUN
    penstock run examples/ml/digits.py:prediction -p model='{"$artifact": …}'

docs/ml-example.md goes through it. scikit-learn is imported by the steps that need it: the others start sooner.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from penstock import Artifact, context, pipeline, step, unmapped

Array = NDArray[Any]

FULL_INK = 16.0
"""The value of a black pixel."""
SHARES = {"train": 0.6, "test": 0.2, "unseen": 0.2}
SEED = 1797
FOLDS = 3
TOLERANCE = 1e-3
"""At which the final fit stops."""


class Examples(TypedDict):
    """Rows of features, and the digit that each row is."""

    rows: Array
    labels: Array


@step(cache=True)
def load() -> dict[str, Array]:
    """The images, each as 64 numbers, and their labels."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # it has no types

    images, labels = load_digits(return_X_y=True)
    return {"images": images, "labels": labels}


@step(cache=True)
def features(images: Array) -> Array:
    """The pixels between 0 and 1, then how much ink each line and each column has."""
    pixels = images.reshape(-1, 8, 8) / FULL_INK
    return np.hstack([pixels.reshape(-1, 64), pixels.mean(axis=1), pixels.mean(axis=2)])


@step(cache=True)
def split(rows: Array, labels: Array) -> dict[str, Examples]:
    """By chance, but always the same: to train on, to test with, and what neither sees."""
    order = np.random.default_rng(SEED).permutation(len(rows))
    ends = np.cumsum([int(share * len(rows)) for share in SHARES.values()])[:-1]
    parts = zip(SHARES, np.split(order, ends), strict=True)
    return {name: {"rows": rows[chosen], "labels": labels[chosen]} for name, chosen in parts}


@step(cache=True)
def evaluate(candidate: dict[str, float], train: Examples) -> dict[str, Any]:
    """What these hyper-parameters are worth, by cross-validation."""
    from sklearn.model_selection import cross_val_score  # type: ignore[import-untyped]  # it has no types
    from sklearn.svm import SVC  # type: ignore[import-untyped]  # it has no types

    scores = cross_val_score(SVC(**candidate), train["rows"], train["labels"], cv=FOLDS)
    context.report_metric("score", float(scores.mean()))
    return {"candidate": candidate, "score": float(scores.mean())}


@step(cache=True)
def choose(evaluated: list[dict[str, Any]]) -> dict[str, float]:
    """The best candidate, of equal ones the first."""
    best: dict[str, float] = max(evaluated, key=lambda each: each["score"])["candidate"]
    return best


@step(cache=True)
def fit(chosen: dict[str, float], train: Examples) -> Any:
    """A classifier of scikit-learn: it is kept as a pickle, as the pipeline allows."""
    from sklearn.svm import SVC

    return SVC(**chosen, tol=TOLERANCE).fit(train["rows"], train["labels"])


@step(cache=True)
def assess(model: Any, test: Examples) -> dict[str, float]:
    """How the model does on images that it was not trained on."""
    accuracy = float((model.predict(test["rows"]) == test["labels"]).mean())
    context.report_metric("accuracy", accuracy)
    return {"accuracy": accuracy, "images": len(test["labels"])}


@step(cache=True, when="steps.assess.output.accuracy >= params.bar")
def promote(model: Any, chosen: dict[str, float], assessed: dict[str, float]) -> Artifact:
    """The model with a name and what is known of it. SKIPPED if it is not good enough."""
    return Artifact.value(model, codec="pickle", name="digits-model", metadata={**chosen, **assessed})


@pipeline(name="digits-training", allow_pickle=["fit", "assess", "promote"])
def training(
    candidates: list[dict[str, float]] = [  # noqa: B006  # the body never changes it
        {"C": 0.1, "gamma": 0.03},
        {"C": 1.0, "gamma": 0.01},
        {"C": 1.0, "gamma": 0.1},
        {"C": 10.0, "gamma": 0.03},
        {"C": 10.0, "gamma": 0.1},
    ],
    bar: float = 0.97,
) -> dict[str, Any]:
    """Train on the digits; promote what is right at least as often as `bar` says."""
    digits = load()
    parts = split(features(digits["images"]), digits["labels"])
    chosen = choose(evaluate.options(max_parallel=2).map(candidates, unmapped(parts["train"])))
    model = fit(chosen, parts["train"])
    assessed = assess(model, parts["test"])
    return {"chosen": chosen, "accuracy": assessed["accuracy"], "model": promote(model, chosen, assessed)}


@step(cache=True)
def batches(rows: Array, size: int) -> list[Array]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@step(cache=True)
def predict(rows: Array, model: Any) -> Array:
    predicted: Array = model.predict(rows)
    return predicted


@step(cache=True)
def publish(predicted: list[Array], labels: Array) -> dict[str, Any]:
    """A table of what was predicted and what it is; and how often that is the same."""
    found = np.concatenate(predicted)
    accuracy = float((found == labels).mean())
    table = Path("predictions.csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["predicted", "label"])
        lines.writerows(zip(found.tolist(), labels.tolist(), strict=True))
    return {"accuracy": accuracy, "predictions": Artifact.file(table, metadata={"accuracy": accuracy})}


@pipeline(name="digits-prediction", allow_pickle=["predict"])
def prediction(model: Any, batch_size: int = 120) -> dict[str, Any]:
    """What a promoted model says of the images that no training has seen: they come out of the same steps."""
    digits = load()
    unseen = split(features(digits["images"]), digits["labels"])["unseen"]
    predicted = predict.options(max_parallel=2).map(batches(unseen["rows"], batch_size), unmapped(model))
    return publish(predicted, unseen["labels"])
