-- name: insert
-- With the record that it belongs to.
insert into cache_entries (
    key, run_id, step, item, attempt, create_time, expire_time, pipeline, step_name, display_name, artifacts, output
)
select
    e.key, e.run_id, e.step, e.item, e.attempt, e.create_time, e.expire_time, e.pipeline, e.step_name, e.display_name,
    e.artifacts::text[], e.output
from unnest(
    $1::bytea[], $2::uuid[], $3::int4[], $4::int4[], $5::int4[], $6::int8[], $7::int8[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::bytea[]
) as e (
    key, run_id, step, item, attempt, create_time, expire_time, pipeline, step_name, display_name, artifacts, output
)

-- name: insert_answered
-- Step runs that were answered from the cache.
insert into step_runs (
    run_id, step, item, generation, state, attempts, ready_time, start_time, end_time, agent, output, failure, source
)
select s.*
from unnest(
    $1::uuid[], $2::int4[], $3::int4[], $4::int4[], $5::int2[], $6::int4[],
    $7::int8[], $8::int8[], $9::int8[], $10::text[], $11::bytea[], $12::bytea[], $13::bytea[]
) as s

-- name: find
select distinct on (wanted.position)
    wanted.position, e.id, e.key, e.run_id, e.step, e.item, e.attempt, e.create_time, e.expire_time, e.pipeline,
    e.step_name, e.display_name, e.artifacts, e.output, octet_length(e.output) as size
from unnest($1::bytea[], $2::int8[]) with ordinality as wanted (key, since, position)
join cache_entries e using (key)
where e.create_time >= wanted.since and (e.expire_time is null or e.expire_time > $3::int8)
order by wanted.position, e.id desc

-- name: reserve
-- In the order of the keys: two that reserve the same ones wait for each other in one order. Answers the keys that are
-- theirs now.
insert into cache_reservations as r (key, run_id, step, item, token, display_name, expire_time)
select w.key, w.run_id, w.step, w.item, w.token, w.display_name, clock_timestamp() + $7::int8 * interval '1 microsecond'
from unnest($1::bytea[], $2::uuid[], $3::int4[], $4::int4[], $5::int8[], $6::text[])
    as w (key, run_id, step, item, token, display_name)
order by w.key
on conflict (key) do update set
    run_id = excluded.run_id,
    step = excluded.step,
    item = excluded.item,
    token = excluded.token,
    display_name = excluded.display_name,
    expire_time = excluded.expire_time
where r.expire_time < clock_timestamp()
    or ((r.run_id, r.step, r.item) = (excluded.run_id, excluded.step, excluded.item) and r.token <= excluded.token)
returning r.key

-- name: holders
select key, run_id, step, item, token, display_name from cache_reservations where key = any($1::bytea[])

-- name: release
with mine as (
    select r.key
    from cache_reservations r
    join unnest($1::bytea[], $2::uuid[], $3::int4[], $4::int4[], $5::int8[]) as w (key, run_id, step, item, token)
        using (key, run_id, step, item, token)
    order by r.key
    for update of r
)
delete from cache_reservations r using mine where r.key = mine.key

-- name: list
select
    id, key, run_id, step, item, attempt, create_time, expire_time, pipeline, step_name, display_name, artifacts,
    ''::bytea as output, octet_length(output) as size
from cache_entries
where ($1::text is null or pipeline = $1)
    and ($2::text is null or step_name = $2)
    and ($3::bytea is null or (key >= $3 and ($4::bytea is null or key < $4)))
    and ($5::uuid is null or run_id = $5)
    and ($6::int8 is null or id < $6)
order by id desc
limit $7

-- name: get
select
    id, key, run_id, step, item, attempt, create_time, expire_time, pipeline, step_name, display_name, artifacts,
    output, octet_length(output) as size
from cache_entries
where id = $1

-- name: delete
with old as (
    select id
    from cache_entries
    where ($1::text is null or pipeline = $1)
        and ($2::text is null or step_name = $2)
        and ($3::bytea is null or (key >= $3 and ($4::bytea is null or key < $4)))
        and ($5::uuid is null or run_id = $5)
        and ($6::int8 is null or id = $6)
    order by id
    limit $7
    for update skip locked
), gone as (
    delete from cache_entries e using old where e.id = old.id returning 1
)
select count(*) from gone

-- name: nth_newest
select create_time from cache_entries order by create_time desc offset $1 limit 1
