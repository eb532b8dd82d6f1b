-- name: of_run
select
    a.step,
    count(*) as attempts,
    sum(c.slot)::int8 as slot_time,
    sum(c.cpu)::int8 as cpu_time,
    max(c.peak)::int8 as peak_memory_bytes,
    sum(c.moved)::int8 as bytes_moved,
    sum(c.peak * (c.slot / 1e6)::float8) as memory_time,
    count(*) filter (where a.outcome <> 1) as wasted_attempts,
    coalesce(sum(c.slot) filter (where a.outcome <> 1), 0)::int8 as wasted_slot_time,
    coalesce(sum(c.cpu) filter (where a.outcome <> 1), 0)::int8 as wasted_cpu_time,
    coalesce(max(c.peak) filter (where a.outcome <> 1), 0)::int8 as wasted_peak_memory_bytes,
    coalesce(sum(c.moved) filter (where a.outcome <> 1), 0)::int8 as wasted_bytes_moved,
    coalesce(sum(c.peak * (c.slot / 1e6)::float8) filter (where a.outcome <> 1), 0) as wasted_memory_time
from attempts a
cross join lateral (
    select
        coalesce(attempt_cost(a.detail, 0), greatest(a.end_time - a.start_time, 0)) as slot,
        coalesce(attempt_cost(a.detail, 1), 0) as cpu,
        coalesce(attempt_cost(a.detail, 2), 0) as peak,
        coalesce(attempt_cost(a.detail, 3), 0) as moved
) c
where a.run_id = $1
group by a.step
order by a.step

-- name: of_steps
-- Step by step of one pipeline. A run of several generations may have gone on with another version, and numbers its
-- steps as the first one did: such runs are told one by one.
select
    case when r.generation > 1 then r.run_id end as run_id,
    r.version_digest,
    a.step,
    count(*) as attempts,
    sum(c.slot)::int8 as slot_time,
    sum(c.cpu)::int8 as cpu_time,
    max(c.peak)::int8 as peak_memory_bytes,
    sum(c.moved)::int8 as bytes_moved,
    sum(c.peak * (c.slot / 1e6)::float8) as memory_time,
    count(*) filter (where a.outcome <> 1) as wasted_attempts,
    coalesce(sum(c.slot) filter (where a.outcome <> 1), 0)::int8 as wasted_slot_time,
    coalesce(sum(c.cpu) filter (where a.outcome <> 1), 0)::int8 as wasted_cpu_time,
    coalesce(max(c.peak) filter (where a.outcome <> 1), 0)::int8 as wasted_peak_memory_bytes,
    coalesce(sum(c.moved) filter (where a.outcome <> 1), 0)::int8 as wasted_bytes_moved,
    coalesce(sum(c.peak * (c.slot / 1e6)::float8) filter (where a.outcome <> 1), 0) as wasted_memory_time
from runs r
join attempts a using (run_id)
cross join lateral (
    select
        coalesce(attempt_cost(a.detail, 0), greatest(a.end_time - a.start_time, 0)) as slot,
        coalesce(attempt_cost(a.detail, 1), 0) as cpu,
        coalesce(attempt_cost(a.detail, 2), 0) as peak,
        coalesce(attempt_cost(a.detail, 3), 0) as moved
) c
where r.pipeline = $1
    and ($2::text[] is null or (r.labels <> '{}' and r.labels @> $2))
    and ($3::int8 is null or r.create_time >= $3)
    and ($4::int8 is null or r.create_time < $4)
    and ($5::uuid is null or r.run_id >= $5)
    and ($6::uuid is null or r.run_id < $6)
group by 1, 2, 3

-- name: of_runs
-- Of a run that is being removed some attempts are rows still, and the others are in its day's sums.
with counted as (
    select r.run_id, r.pipeline, r.labels, r.create_time / 86400000000 as day
    from runs r
    where ($1::text is null or r.pipeline = $1)
        and ($2::text[] is null or (r.labels <> '{}' and r.labels @> $2))
        and ($3::int8 is null or r.create_time >= $3)
        and ($4::int8 is null or r.create_time < $4)
        and ($5::uuid is null or r.run_id >= $5)
        and ($6::uuid is null or r.run_id < $6)
    union all
    select g.run_id, g.pipeline, g.labels, g.create_time / 86400000000
    from removed_runs g
    where not g.gone and g.pipeline <> ''
        and ($1::text is null or g.pipeline = $1)
        and ($2::text[] is null or g.labels @> $2)
        and ($3::int8 is null or g.create_time >= $3)
        and ($4::int8 is null or g.create_time < $4)
), sums as (
    select
        n.pipeline, n.labels, n.day,
        count(*) as attempts,
        sum(c.slot) as slot_time,
        sum(c.cpu) as cpu_time,
        max(c.peak) as peak_memory_bytes,
        sum(c.moved) as bytes_moved,
        sum(c.peak * (c.slot / 1e6)::float8) as memory_time,
        count(*) filter (where a.outcome <> 1) as wasted_attempts,
        coalesce(sum(c.slot) filter (where a.outcome <> 1), 0) as wasted_slot_time,
        coalesce(sum(c.cpu) filter (where a.outcome <> 1), 0) as wasted_cpu_time,
        coalesce(max(c.peak) filter (where a.outcome <> 1), 0) as wasted_peak_memory_bytes,
        coalesce(sum(c.moved) filter (where a.outcome <> 1), 0) as wasted_bytes_moved,
        coalesce(sum(c.peak * (c.slot / 1e6)::float8) filter (where a.outcome <> 1), 0) as wasted_memory_time
    from counted n
    join attempts a using (run_id)
    cross join lateral (
        select
            coalesce(attempt_cost(a.detail, 0), greatest(a.end_time - a.start_time, 0)) as slot,
            coalesce(attempt_cost(a.detail, 1), 0) as cpu,
            coalesce(attempt_cost(a.detail, 2), 0) as peak,
            coalesce(attempt_cost(a.detail, 3), 0) as moved
    ) c
    group by n.pipeline, n.labels, n.day
    union all
    select
        d.pipeline, d.labels, d.day,
        d.attempts, d.slot_time, d.cpu_time, d.peak_memory_bytes, d.bytes_moved, d.memory_time,
        d.wasted_attempts, d.wasted_slot_time, d.wasted_cpu_time, d.wasted_peak_memory_bytes, d.wasted_bytes_moved,
        d.wasted_memory_time
    from cost_days d
    where ($1::text is null or d.pipeline = $1)
        and ($2::text[] is null or d.labels @> $2)
        and ($3::int8 is null or d.day * 86400000000 >= $3)
        and ($4::int8 is null or d.day * 86400000000 < $4)
), named as (
    select
        case $7::text
            when 'pipeline' then s.pipeline
            when 'day' then to_char(date '1970-01-01' + s.day::int4, 'YYYY-MM-DD')
            when 'label' then coalesce(
                (select substr(l, length($8::text) + 1) from unnest(s.labels) l where starts_with(l, $8::text) limit 1),
                ''
            )
            else ''
        end as name,
        s.*
    from sums s
)
select
    name,
    sum(attempts)::int8 as attempts,
    sum(slot_time)::int8 as slot_time,
    sum(cpu_time)::int8 as cpu_time,
    max(peak_memory_bytes)::int8 as peak_memory_bytes,
    sum(bytes_moved)::int8 as bytes_moved,
    sum(memory_time)::float8 as memory_time,
    sum(wasted_attempts)::int8 as wasted_attempts,
    sum(wasted_slot_time)::int8 as wasted_slot_time,
    sum(wasted_cpu_time)::int8 as wasted_cpu_time,
    max(wasted_peak_memory_bytes)::int8 as wasted_peak_memory_bytes,
    sum(wasted_bytes_moved)::int8 as wasted_bytes_moved,
    sum(wasted_memory_time)::float8 as wasted_memory_time
from named
group by name
order by slot_time desc, name
limit $9
