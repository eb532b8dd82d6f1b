"""`cost`: what runs have cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from penstock.cli.moments import read_moment
from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.v1 import cost_pb2, cost_service_pb2

_HEAD = ("ATTEMPTS", "SLOTS", "CPU", "PEAK MEMORY", "MOVED", "WASTED")
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@click.command()
@click.argument("run_id", metavar="[RUN]", default="")
@click.option(
    "--by",
    type=click.Choice(["pipeline", "day", "step"]),
    help="How many runs are put together [pipeline]; step: of the one that --pipeline names.",
)
@click.option("--by-label", metavar="KEY", default="", help="By the value of a label.")
@click.option("--pipeline", metavar="NAME", default="", help="Only runs of this pipeline.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only runs with it; may be repeated.")
@click.option("--since", metavar="MOMENT", callback=read_moment, help="Only runs created then or later (UTC).")
@click.option("--days", type=click.IntRange(1, 36_500), help="Only runs created in so many days until now.")
@click.option("--until", metavar="MOMENT", callback=read_moment, help="Only runs created before (UTC).")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Lines at most.")
@command_options
def cost(
    session: Session,
    run_id: str,
    by: str | None,
    by_label: str,
    pipeline: str,
    labels: tuple[str, ...],
    since: datetime | None,
    days: int | None,
    until: datetime | None,
    limit: int,
) -> None:
    """What a run has cost by step, or what runs have cost, by pipeline, by day, by the value of a label, or by the
    steps of a pipeline. Runs that were removed count too, by whole days (UTC), but not by step."""
    if by and by_label:
        raise click.UsageError("--by and --by-label are two ways to put runs together: give one of them")
    if since and days:
        raise click.UsageError("--since and --days are two ways to say from when on: give one of them")
    if by == "step" and not pipeline:
        raise click.UsageError("--by step is about the steps of one pipeline: name it with --pipeline")
    if run_id and (by or by_label or pipeline or labels or since or days or until):
        raise click.UsageError("of one run there is nothing to choose: leave out the options, or RUN")
    from penstock.cli.run_ids import find_run
    from penstock.cli.running import read_labels

    wanted = read_labels(labels)
    since = since if days is None else datetime.now(UTC) - timedelta(days=days)

    async def main() -> None:
        async with session.client() as client:
            if run_id:
                _show(session, await client.get_costs(await find_run(client, run_id)), "STEP")
                return
            grouping = "label" if by_label else by or "pipeline"
            found = await client.list_costs(
                group_by=grouping,
                label=by_label,
                pipeline=pipeline,
                labels=wanted,
                since=since,
                until=until,
                limit=limit,
            )
            _show(session, found, by_label.upper() or grouping.upper())

    run_async(main)


def _show(
    session: Session, found: cost_service_pb2.GetCostsResponse | cost_service_pb2.ListCostsResponse, name: str
) -> None:
    if session.as_json:
        session.emit(found)
        return
    from penstock.cli.tables import print_table

    named = [(step.step, step.costs) for step in found.steps] if hasattr(found, "steps") else []
    named += [(group.name or "-", group.costs) for group in found.groups] if hasattr(found, "groups") else []
    if not named:
        session.say("nothing has cost anything yet")
        return
    priced = found.costs.total.price > 0
    rows = [_row(label, costs, found.currency, priced=priced) for label, costs in [*named, ("all", found.costs)]]
    print_table(session.console(), (name, *_HEAD, *(("PRICE",) if priced else ())), rows)


def _row(name: str, costs: cost_pb2.Costs, currency: str, *, priced: bool) -> tuple[str, ...]:
    total = costs.total
    return (
        name,
        f"{total.attempts:,}",
        seconds(total.slot_time.ToTimedelta().total_seconds()),
        seconds(total.cpu_time.ToTimedelta().total_seconds()),
        size(total.peak_memory_bytes),
        size(total.bytes_moved),
        wasted(costs),
        *((money(total.price, currency),) if priced else ()),
    )


def cost_line(costs: cost_pb2.Costs, currency: str = "") -> str:
    """Of a run, in a line."""
    total = costs.total
    parts = [
        f"{seconds(total.slot_time.ToTimedelta().total_seconds())} of slots",
        f"{seconds(total.cpu_time.ToTimedelta().total_seconds())} of CPU",
        f"at most {size(total.peak_memory_bytes)} at once in one attempt",
    ]
    if costs.wasted.attempts:
        parts.append(f"wasted: {wasted(costs)}")
    if total.price:
        parts.append(money(total.price, currency))
    return ", ".join(parts)


def wasted(costs: cost_pb2.Costs) -> str:
    lost = costs.wasted
    if not lost.attempts:
        return "-"
    return f"{seconds(lost.slot_time.ToTimedelta().total_seconds())} in {lost.attempts:,}"


def seconds(value: float) -> str:
    return f"{value:,.1f} s" if value >= 10 else f"{value:.3f} s"


def size(value: int) -> str:
    for unit, name in _UNITS:
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return f"{value} B" if value else "-"


def money(value: float, currency: str) -> str:
    return f"{value:,.4f} {currency}".rstrip()
