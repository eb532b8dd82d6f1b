-- name: append
-- Readers ask for positions above the last they saw, so within a run a smaller position must never appear after a
-- greater one: positions are drawn while the run's lock is held, and the lock is held until the commit. The cross join
-- with an aggregate over the locks is what makes all of them come before the first position. $1 is sorted, so that two
-- writers never wait for each other.
with locks as materialized (
    select pg_advisory_xact_lock(7400, run_lock) from unnest($1::int4[]) as run_lock
), held as materialized (
    select count(*) as number from locks
), chunks as (
    select c.*
    from held, unnest($2::uuid[], $3::int4[], $4::int4[], $5::int4[], $6::int8[], $7::int8[], $8::bytea[])
        with ordinality as c (run_id, step, item, attempt, first_number, at, lines, ordinality)
    where held.number >= 0
        -- Lines that come again may be in a pack already.
        and not exists (
            select from log_parts p
            where p.run_id = c.run_id and p.step = c.step and p.item = c.item and p.attempt = c.attempt
                and p.last_number >= c.first_number and p.first_number <= c.first_number
        )
    -- After all joins, as a join by hash gives the chunks in any order: readers take an older line after a newer one of
    -- the same attempt for one that they have seen. Nothing but the drawing of positions comes after this.
    order by c.ordinality
)
insert into log_chunks (run_id, position, step, item, attempt, first_number, at, lines)
select run_id, nextval('log_positions'), step, item, attempt, first_number, at, lines
from chunks
on conflict (run_id, step, item, attempt, first_number) do nothing

-- name: read
select position, step, item, attempt, at, lines
from log_chunks
where run_id = $1 and position > $2
    and ($3::int4 is null or step = $3) and ($4::int4 is null or item = $4) and ($5::int4 is null or attempt = $5)
    and ($6::int8 is null or at >= $6)
order by position
limit $7

-- name: last
select position, step, item, attempt, at, lines
from log_chunks
where run_id = $1
    and ($2::int4 is null or step = $2) and ($3::int4 is null or item = $3) and ($4::int4 is null or attempt = $4)
    and ($5::int8 is null or at >= $5)
order by position desc
limit $6
