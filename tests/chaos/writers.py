"""Who wrote each record of the journal, by the database's own account: a trigger, which Penstock knows nothing of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

INSTALL = """
create table chaos_writes (
    run_id uuid not null, first_seq bigint not null, writer text not null, epoch bigint not null, at bigint not null
);
create index on chaos_writes (epoch, at);
create function chaos_note() returns trigger language plpgsql as $$
declare
    -- "penstock ID lane 3" is the name of the connection.
    who text := split_part(current_setting('application_name'), ' ', 2);
begin
    insert into chaos_writes
    select run_id, first_seq, who, coalesce((select max(epoch) from fences where coordinator_id = who), 0),
        (extract(epoch from clock_timestamp()) * 1000000)::bigint
    from added;
    return null;
end $$;
create trigger chaos_note after insert on run_events
    referencing new table as added for each statement execute function chaos_note();
"""
WRITES = (
    "select w.run_id, w.first_seq, w.writer, w.epoch, w.at from chaos_writes w join runs using (run_id)"
    " where $1 = any(runs.labels) order by w.run_id, w.first_seq"
)


@dataclass(frozen=True, slots=True)
class Write:
    run_id: str
    first_seq: int
    """Of the record in its run."""
    writer: str
    """The coordinator, by the name of its connection."""
    epoch: int
    """Of the writer's fence, as the statement that wrote saw it."""
    at: int
    """Microseconds since 1970, by the database's clock."""


def install(dsn: str) -> None:
    """From here on it is noted who writes."""

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(INSTALL)
        finally:
            await connection.close()

    asyncio.run(run())


def problems(writes: Iterable[Write], *, members: bool = False) -> list[str]:
    """What is wrong with writes that are ordered by run and record: somebody wrote after a newer owner had. With
    `members` a head that takes a run over from one has an older epoch: there it counts that nobody comes back."""
    found: list[str] = []
    owners: dict[int, str] = {}
    last: Write | None = None
    former: set[int] = set()
    for write in writes:
        owner = owners.setdefault(write.epoch, write.writer)
        if owner != write.writer:
            found.append(f"epoch {write.epoch} is of {owner}, and {write.writer} wrote in it: run {write.run_id}")
        if last is None or last.run_id != write.run_id:
            former = set()
        elif write.epoch != last.epoch:
            former.add(last.epoch)
            if write.epoch in former or (write.epoch < last.epoch and not members):
                found.append(
                    f"OVERTAKEN: {write.writer} wrote record {write.first_seq} of run {write.run_id} in epoch"
                    f" {write.epoch}, after {last.writer} in epoch {last.epoch}"
                )
        last = write
    return found
