-- name: list
select
    l.run_id, l.seq, l.step, l.item, l.generation, l.budget, l.attempts, l.at, l.pipeline, l.step_name, l.display_name,
    l.reason, l.message, l.error_class, l.state, l.close_time, l.closed_by
from dead_letters l
where ($1::text is null or l.pipeline = $1)
    and ($2::uuid is null or l.run_id = $2)
    and ($3::text is null or l.step_name = $3)
    and ($4::bytea is null or l.reason = $4)
    and ($5::int2[] is null or l.budget = any($5))
    and ($6::text[] is null or exists (select from runs r where r.run_id = l.run_id and r.labels @> $6))
    and ($7::int8 is null or l.at >= $7)
    and ($8::int8 is null or l.at < $8)
    and ($9::bytea is null or l.error_class = $9
        or substring(l.error_class from octet_length(l.error_class) - octet_length($9)) = '\x2e' || $9)
    and l.state = any($10::int2[])
    and ($11::int8 is null or (l.at, l.run_id, l.seq) < ($11, $12::uuid, $13::int8))
order by l.at desc, l.run_id desc, l.seq desc
limit $14

-- name: get
select
    run_id, seq, step, item, generation, budget, attempts, at, pipeline, step_name, display_name, reason, message,
    error_class, state, close_time, closed_by
from dead_letters
where run_id = $1 and seq = $2

-- name: runs
select distinct l.run_id
from dead_letters l
where l.state = 1
    and ($1::text is null or l.pipeline = $1)
    and ($2::uuid is null or l.run_id = $2)
    and ($3::text is null or l.step_name = $3)
    and ($4::bytea is null or l.reason = $4)
    and ($5::int2[] is null or l.budget = any($5))
    and ($6::text[] is null or exists (select from runs r where r.run_id = l.run_id and r.labels @> $6))
    and ($7::int8 is null or l.at >= $7)
    and ($8::int8 is null or l.at < $8)
    and ($9::bytea is null or l.error_class = $9
        or substring(l.error_class from octet_length(l.error_class) - octet_length($9)) = '\x2e' || $9)
    and l.run_id < $10::uuid
order by l.run_id desc
limit $11

-- name: of_run
select seq, step, item, generation, budget, attempts, at, pipeline, step_name, display_name, reason, message,
    error_class
from dead_letters l
where l.run_id = $2 and l.state = 1
    and ($1::text is null or l.pipeline = $1)
    and ($3::text is null or l.step_name = $3)
    and ($4::bytea is null or l.reason = $4)
    and ($5::int2[] is null or l.budget = any($5))
    and ($6::text[] is null or exists (select from runs r where r.run_id = l.run_id and r.labels @> $6))
    and ($7::int8 is null or l.at >= $7)
    and ($8::int8 is null or l.at < $8)
    and ($9::bytea is null or l.error_class = $9
        or substring(l.error_class from octet_length(l.error_class) - octet_length($9)) = '\x2e' || $9)
order by seq

-- name: count
select count(*) as letters, count(distinct l.run_id) as runs
from dead_letters l
where l.state = 1
    and ($1::text is null or l.pipeline = $1)
    and ($2::uuid is null or l.run_id = $2)
    and ($3::text is null or l.step_name = $3)
    and ($4::bytea is null or l.reason = $4)
    and ($5::int2[] is null or l.budget = any($5))
    and ($6::text[] is null or exists (select from runs r where r.run_id = l.run_id and r.labels @> $6))
    and ($7::int8 is null or l.at >= $7)
    and ($8::int8 is null or l.at < $8)
    and ($9::bytea is null or l.error_class = $9
        or substring(l.error_class from octet_length(l.error_class) - octet_length($9)) = '\x2e' || $9)

-- name: count_open
select count(*) from (select 1 from dead_letters where state = 1 limit $1) counted

-- name: purge
-- Who closes a letter at this moment is not waited for.
with due as materialized (
    select run_id, seq from dead_letters
    where run_id = $1 and seq = any($2::int8[]) and state = 1
    order by seq
    for update skip locked
), purged as (
    update dead_letters l set state = 3, close_time = $3, closed_by = $4
    from due
    where l.run_id = due.run_id and l.seq = due.seq
    returning 1
)
select count(*) from purged

-- name: insert
-- Of one batch of records, in the transaction that stores them.
insert into dead_letters (
    run_id, seq, step, item, generation, budget, attempts, at, pipeline, step_name, display_name, reason, message,
    error_class
)
select l.*
from unnest(
    $1::uuid[], $2::int8[], $3::int4[], $4::int4[], $5::int4[], $6::int2[], $7::int4[], $8::int8[], $9::text[],
    $10::text[], $11::text[], $12::bytea[], $13::bytea[], $14::bytea[]
) as l

-- name: close
-- Of step runs that a new generation resets: whole steps ($5, $6), and single items ($7, $8, $9); half open ranges.
update dead_letters l
set state = 2, close_time = $3, closed_by = $4
where l.run_id = $1 and l.seq < $2 and l.state = 1
    and (
        exists (
            select from unnest($5::int4[], $6::int4[]) as s (first, stop) where l.step >= s.first and l.step < s.stop
        )
        or exists (
            select from unnest($7::int4[], $8::int4[], $9::int4[]) as i (step, first, stop)
            where l.step = i.step and l.item >= i.first and l.item < i.stop
        )
    )
