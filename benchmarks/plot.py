"""Draws what systems did in each workload: python -m benchmarks.plot RESULTS.jsonl ... PICTURE.svg

The files hold the lines that the benchmarks print; of lines about the same, the last one counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import ticker

from benchmarks.turns import HEADLINES, PENSTOCK

OURS, OTHERS = "#1f6feb", "#9aa4b2"
TITLES = {
    "chain40": "chain of 40: transition, ms",
    "fan1000": "fan-out of 1,000: steps/s",
    "diamonds200": "200 diamonds: runs/s",
    "start": "start of a run, ms",
    "singles10000": "10,000 runs: steps/s",
}


def read(files: list[Path]) -> dict[str, dict[str, float]]:
    """The headline figure of each system, by workload."""
    found: dict[str, dict[str, float]] = {workload: {} for workload in HEADLINES}
    for file in files:
        for line in file.read_text().splitlines():
            result: dict[str, Any] = json.loads(line)
            if result["workload"] in HEADLINES and "median" in result:
                found[result["workload"]][result["system"]] = result["median"][HEADLINES[result["workload"]]]
    return {workload: systems for workload, systems in found.items() if systems}


def draw(found: dict[str, dict[str, float]], picture: Path) -> None:
    matplotlib.use("svg")
    # The same figures make the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "penstock", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    systems = list(dict.fromkeys(name for figures in found.values() for name in figures))
    height = 1.1 + 0.22 * len(systems)
    figure, axes = pyplot.subplots(1, len(found), figsize=(2.6 * len(found), height), sharey=True, squeeze=False)
    for panel, (workload, figures) in zip(axes[0], found.items(), strict=True):
        _draw_panel(panel, TITLES[workload], [figures.get(system, 0.0) for system in systems], systems)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})


def _draw_panel(panel: Any, title: str, values: list[float], systems: list[str]) -> None:
    colours = [OURS if system == PENSTOCK else OTHERS for system in systems]
    bars = panel.barh(systems, values, color=colours, log=True)
    panel.bar_label(bars, [_label(value) for value in values], padding=2)
    panel.set_title(title, fontsize=8)
    # A logarithmic axis has no zero: it begins well before the shortest bar, and says so by having no scale.
    panel.set_xlim(min(filter(None, values)) / 4, max(values) * 8)
    panel.xaxis.set_major_locator(ticker.NullLocator())
    panel.xaxis.set_minor_locator(ticker.NullLocator())
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)


def _label(value: float) -> str:
    return "–" if not value else f"{value:.2g}" if value < 10 else f"{value:,.0f}"  # noqa: RUF001  # no value


if __name__ == "__main__":
    *sources, target = (Path(argument) for argument in sys.argv[1:])
    draw(read(sources), target)
