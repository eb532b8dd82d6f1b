"""The settings of what is kept for how long: they are those of the janitor, and they fit together."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from penstock_coordinator.configured import pace, retention
from penstock_coordinator.runtime.retention import Pace, Retention
from penstock_coordinator.settings import Settings, SettingsError, load_settings, shown_settings, variable

PAGE = (Path(__file__).parents[3] / "docs" / "retention.md").read_text()
OTHERS = ("runs_kept", "cache_entries", "janitor_", "artifacts_kept", "artifact_grace")
NAMES = [name for name in Settings.model_fields if "retention" in name or name.startswith(OTHERS)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", "postgresql://user@127.0.0.1/db")


def test_the_defaults_are_those_of_the_janitor() -> None:
    assert retention(load_settings()) == Retention()
    assert pace(load_settings()) == Pace()


def test_each_setting_reaches_the_janitor() -> None:
    spans = {name: f"{number}d" for number, name in enumerate(NAMES, start=10) if name.endswith("_retention")}
    others = {
        "runs_kept_per_pipeline": "3",
        "cache_entries_kept": "5",
        "janitor_interval": "7s",
        "janitor_batch": "77",
        "janitor_pause": "1s",
        "artifact_retention_of": "etl=2d",
        "artifacts_kept": "5",
        "artifact_grace": "3h",
    }
    assert {*spans, *others} == set(NAMES)
    spans["run_retention"] = "80d"
    settings = load_settings({**spans, **others})
    found, default = retention(settings), Retention()
    assert all(
        getattr(found, each.name) != getattr(default, each.name) for each in fields(found) if each.name != "strays"
    )
    assert pace(settings) == Pace(interval=7_000_000, batch=77, pause=1_000_000)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"run_retention": "500ms"}, "PENSTOCK_RUN_RETENTION='500ms': is shorter than a second"),
        ({"run_retention": "4000d"}, "PENSTOCK_RUN_RETENTION"),
        ({"run_retention": "3d"}, "PENSTOCK_RUN_RETENTION is shorter than PENSTOCK_REQUEST_RETENTION"),
        ({"request_retention": "0s"}, "PENSTOCK_REQUEST_RETENTION"),
        ({"unused_bundle_retention": "1h"}, "PENSTOCK_UNUSED_BUNDLE_RETENTION is shorter than 2h"),
        ({"runs_kept_per_pipeline": "-1"}, "PENSTOCK_RUNS_KEPT_PER_PIPELINE"),
        ({"janitor_batch": "9"}, "PENSTOCK_JANITOR_BATCH"),
        ({"artifact_grace": "59m"}, "PENSTOCK_ARTIFACT_GRACE"),
        ({"artifact_retention_of": "etl"}, "is no pipeline with a span: write for example train=90d,etl=2d"),
        ({"artifact_retention_of": "etl=2d,etl=3d"}, "is no pipeline with a span"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(given: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(problem)):
        load_settings(given)


def test_nothing_is_removed_by_age_if_the_spans_say_so() -> None:
    settings = load_settings(
        {name: "0s" for name in NAMES if name.endswith("retention") and name != "request_retention"}
    )
    kept = retention(settings)
    assert kept.kept_since(10**18) is None
    assert {kept.logs, kept.bulk_jobs, kept.deleted_pipelines, kept.unused_bundles, kept.notes, kept.artifacts} == {0}


@pytest.mark.parametrize("name", NAMES)
def test_the_page_names_it_with_its_default(name: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{variable(name)}`" in line]
    value = next(each.value for each in shown_settings(load_settings()) if each.name == name)
    assert f"| {value} |" in rows[0]
