"""`budget show|raise`: what was used of budgets, and more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.v1 import budget_pb2, budget_service_pb2

_MEASURES = (("slot_seconds", "slot-seconds"), ("cpu_seconds", "CPU-seconds"), ("price", "in price"))


@click.group()
def budget() -> None:
    """What runs, or the runs of a pipeline together, may cost."""


@budget.command()
@click.argument("run_id", metavar="[RUN]", default="")
@click.option("--pipeline", metavar="NAME", default="", help="In its present day, week or month.")
@command_options
def show(session: Session, run_id: str, pipeline: str) -> None:
    """What was used of a budget: by attempts that ended."""

    async def main() -> None:
        async with session.client() as client:
            _show(session, await client.get_budget(**await _whose(client, run_id, pipeline)))

    run_async(main)


@budget.command(name="raise")
@click.argument("run_id", metavar="[RUN]", default="")
@click.option("--pipeline", metavar="NAME", default="", help="For its present day, week or month.")
@click.option("--slot-seconds", type=click.FloatRange(min=0, min_open=True), default=None, help="The new limit.")
@click.option("--cpu-seconds", type=click.FloatRange(min=0, min_open=True), default=None, help="The new limit.")
@click.option("--price", type=click.FloatRange(min=0, min_open=True), default=None, help="The new limit.")
@click.option("--reason", default="", help="Kept with the run.")
@command_options
def raise_(
    session: Session,
    run_id: str,
    pipeline: str,
    slot_seconds: float | None,
    cpu_seconds: float | None,
    price: float | None,
    reason: str,
) -> None:
    """Raise a budget to new limits. What waits for it goes on by itself."""
    if slot_seconds is None and cpu_seconds is None and price is None:
        raise click.UsageError("to what it is raised: give --slot-seconds, --cpu-seconds or --price")

    async def main() -> None:
        async with session.client() as client:
            raised = await client.raise_budget(
                **await _whose(client, run_id, pipeline),
                slot_seconds=slot_seconds or 0,
                cpu_seconds=cpu_seconds or 0,
                price=price or 0,
                reason=reason,
            )
            _show(session, raised)

    run_async(main)


async def _whose(client: Any, run_id: str, pipeline: str) -> dict[str, str]:
    if bool(run_id) == bool(pipeline):
        raise click.UsageError("whose budget it is: give RUN or --pipeline, one of them")
    if pipeline:
        return {"pipeline": pipeline}
    from penstock.cli.run_ids import find_run

    return {"run_id": await find_run(client, run_id)}


def _show(
    session: Session, found: budget_service_pb2.GetBudgetResponse | budget_service_pb2.RaiseBudgetResponse
) -> None:
    if session.as_json:
        session.emit(found)
    else:
        session.say(budget_line(found.use, found.currency))


def budget_line(use: budget_pb2.BudgetUse, currency: str = "") -> str:
    """ "12.5 of 10 CPU-seconds, for each run: used up"."""
    parts = []
    for field, name in _MEASURES:
        limit = getattr(use.budget, field)
        if limit:
            unit = currency if field == "price" and currency else name
            parts.append(f"{_amount(getattr(use, f'used_{field}'))} of {_amount(limit)} {unit}")
    text = ", ".join(parts)
    if use.HasField("window_end"):
        start, end = (each.ToDatetime().date().isoformat() for each in (use.window_start, use.window_end))
        text += f", from {start} until {end} (UTC)"
    return text + (": used up" if use.exceeded else "")


def _amount(number: float) -> str:
    return f"{number:,.3f}".rstrip("0").rstrip(".")
