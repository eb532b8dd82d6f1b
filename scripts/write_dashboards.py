"""Writes deploy/grafana/dashboards: what scripts/dashboards.py says, as JSON, by Grafana's own model of it.

python -m scripts.write_dashboards [--check]

With --check nothing is written; the exit code says whether the files are as they should be.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from pathlib import Path

# The model's newer form of dashboards is not what Grafana provisions from files.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="grafana_foundation_sdk.*")

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries  # noqa: E402
from grafana_foundation_sdk.builders import stat as stats  # noqa: E402
from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig, VizLegendOptions  # noqa: E402
from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: E402
from grafana_foundation_sdk.models.common import (  # noqa: E402
    BigValueColorMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (  # noqa: E402
    DashboardLinkType,
    Threshold,
    ThresholdsMode,
)
from scripts.dashboard_panels import STACK, STAT, Board, Panel  # noqa: E402
from scripts.dashboards import BOARDS  # noqa: E402

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "dashboards"
REMEDY = "deploy/grafana/dashboards is not what scripts/dashboards.py says: make monitoring writes it"
TAG = "penstock"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH_OF_NUMBERS, WIDTH = 3, 8
HEIGHT_OF_NUMBERS, HEIGHT = 4, 8
"""Of a screen that is 24 wide."""


def files() -> dict[str, str]:
    """The content of each file by its name."""
    return {f"{board.uid}.json": _json(board) for board in BOARDS}


def _json(board: Board) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(_dashboard(board).build()) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(dashboard.DashboardLink("Penstock").type(DashboardLinkType.DASHBOARDS).tags([TAG]).include_vars(True))
    )
    numbers = itertools.count(1)
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            made = made.with_panel(_panel(panel).id(next(numbers)))
    return made


def _panel(panel: Panel) -> stats.Panel | timeseries.Panel:
    return _number(panel) if panel.kind == STAT else _graph(panel)


def _number(panel: Panel) -> stats.Panel:
    made = (
        stats.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(DATASOURCE)
        .span(WIDTH_OF_NUMBERS)
        .height(HEIGHT_OF_NUMBERS)
        .color_mode(BigValueColorMode.BACKGROUND)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(_steps(panel)))
    )
    return made.targets([_target(panel, 0).instant()])


def _steps(panel: Panel) -> list[Threshold]:
    if panel.red_below is not None:
        return [Threshold(value=None, color="red"), Threshold(value=panel.red_below, color="green")]
    if panel.red_from is not None:
        return [Threshold(value=None, color="green"), Threshold(value=panel.red_from, color="red")]
    return [Threshold(value=None, color="blue")]


def _graph(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(DATASOURCE)
        .span(WIDTH)
        .height(HEIGHT)
        .fill_opacity(30 if panel.kind == STACK else 5)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
    )
    if panel.kind == STACK:
        made = made.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return made.targets([_target(panel, number) for number in range(len(panel.queries))])


def _target(panel: Panel, number: int) -> prometheus.Dataquery:
    query = panel.queries[number]
    return (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .ref_id(chr(ord("A") + number))
        .datasource(DATASOURCE)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the files are up to date")
    check = parser.parse_args().check
    wanted = files()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    if check:
        if there != wanted:
            print(REMEDY, file=sys.stderr)
        return int(there != wanted)
    for name in there.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
