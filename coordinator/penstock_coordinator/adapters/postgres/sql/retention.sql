-- Run ids begin with the milliseconds of the run's creation, and nothing of a run is older than that: "$n::uuid, an id of
-- the instant" bounds every search for what is older than an instant to the lower end of a primary key.
--
-- Nothing here waits for a lock of a commit: rows are taken FOR UPDATE SKIP LOCKED, and what is taken is checked again.

-- name: bytes_taken
select pg_database_size(current_database())

-- name: ended_runs
select r.run_id
from runs r
where r.run_id > $1 and ($2::uuid is null or r.run_id < $2)
    and r.state >= 6
    and ($3::int8 is null or r.end_time < $3)
    and ($4::int8 is null or r.end_time >= $4)
    and ($5::text is null or r.pipeline = $5)
    and (r.parent_run_id is null or not exists (select from runs p where p.run_id = r.parent_run_id))
order by r.run_id
limit $6

-- name: held_from_below
with recursive held (run_id) as (
    select c.parent_run_id
    from runs c
    where c.state < 6 and c.parent_run_id is not null
        and exists (select from runs p where p.run_id = c.parent_run_id and p.state >= 6)
    union
    select r.parent_run_id from held join runs r using (run_id) where r.parent_run_id is not null
)
select run_id from held

-- name: nth_newest
select run_id
from runs
where pipeline = $1 and state >= 6 and parent_run_id is null
order by run_id desc
offset $2 - 1 limit 1

-- name: pipelines_of_runs
select name from pipelines where name > $1 order by name limit $2

-- name: children
select c.run_id
from runs c
where c.parent_run_id = any($1::uuid[]) and c.run_id > $2 and c.state >= 6
    and not exists (select from runs b where b.parent_run_id = c.run_id and b.state < 6)
order by c.run_id
limit $3

-- name: remove_runs
with due as materialized (
    select r.run_id
    from runs r
    where r.run_id = any($1::uuid[])
        and r.state >= 6
        and ($3::int8 is null or r.end_time < $3)
        and ($4::text is null or r.pipeline = $4)
        and ($5::uuid is null or r.run_id < $5)
        and (r.parent_run_id is null or not exists (select from runs p where p.run_id = r.parent_run_id))
        and not exists (select from runs c where c.parent_run_id = r.run_id and c.state < 6)
    for update of r skip locked
), removed as (
    delete from runs using due where runs.run_id = due.run_id returning
        runs.run_id, runs.pipeline, runs.run_key, runs.labels, runs.create_time
)
insert into removed_runs (run_id, remove_time, pipeline, run_key, labels, create_time)
select run_id, $2, pipeline, run_key, labels, create_time from removed
on conflict (run_id) do update
set
    remove_time = excluded.remove_time,
    pipeline = excluded.pipeline,
    run_key = excluded.run_key,
    labels = excluded.labels,
    create_time = excluded.create_time,
    gone = false
returning run_id

-- name: noted
select run_id from removed_runs where not gone and run_id > $1 order by run_id limit $2

-- name: count of events=run_events step_runs attempts logs=log_chunks log_packs dead_letters artifacts artifact_uses
select count(*) from {table} where run_id = any($1::uuid[])

-- name: remove_events
-- The oldest of a run first: whoever reads a journal from its beginning sees at once that it is not whole.
with old as materialized (
    select e.run_id, e.first_seq
    from run_events e
    where e.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = e.run_id and r.state < 6)
    order by e.run_id, e.first_seq
    limit $2
), removed as (
    delete from run_events e using old where e.run_id = old.run_id and e.first_seq = old.first_seq returning 1
)
select count(*) from removed

-- name: remove_step_runs
with old as materialized (
    select s.run_id, s.step, s.item, s.generation
    from step_runs s
    where s.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = s.run_id and r.state < 6)
    order by s.run_id, s.step, s.item, s.generation
    limit $2
), removed as (
    delete from step_runs s using old
    where s.run_id = old.run_id and s.step = old.step and s.item = old.item and s.generation = old.generation
    returning 1
)
select count(*) from removed

-- name: remove_attempts
-- What they cost is kept, in the same transaction.
with old as materialized (
    select a.run_id, a.step, a.item, a.number, a.token
    from attempts a
    where a.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = a.run_id and r.state < 6)
    order by a.run_id, a.step, a.item, a.number, a.token
    limit $2
), removed as (
    delete from attempts a using old
    where a.run_id = old.run_id and a.step = old.step and a.item = old.item and a.number = old.number
        and a.token = old.token
    returning a.run_id, a.outcome, a.start_time, a.end_time, a.detail
), costs as (
    select
        g.create_time / 86400000000 as day,
        g.pipeline,
        g.labels,
        a.outcome <> 1 as wasted,
        coalesce(attempt_cost(a.detail, 0), greatest(a.end_time - a.start_time, 0)) as slot,
        coalesce(attempt_cost(a.detail, 1), 0) as cpu,
        coalesce(attempt_cost(a.detail, 2), 0) as peak,
        coalesce(attempt_cost(a.detail, 3), 0) as moved
    from removed a
    join removed_runs g using (run_id)
    where g.pipeline <> ''
), kept as (
    insert into cost_days as d (
        day, pipeline, labels_digest, labels, attempts, slot_time, cpu_time, peak_memory_bytes, bytes_moved,
        memory_time, wasted_attempts, wasted_slot_time, wasted_cpu_time, wasted_peak_memory_bytes,
        wasted_bytes_moved, wasted_memory_time
    )
    select
        c.day, c.pipeline, decode(md5(c.labels::text), 'hex'), c.labels,
        count(*), sum(c.slot), sum(c.cpu), max(c.peak), sum(c.moved), sum(c.peak * (c.slot / 1e6)::float8),
        count(*) filter (where c.wasted),
        coalesce(sum(c.slot) filter (where c.wasted), 0),
        coalesce(sum(c.cpu) filter (where c.wasted), 0),
        coalesce(max(c.peak) filter (where c.wasted), 0),
        coalesce(sum(c.moved) filter (where c.wasted), 0),
        coalesce(sum(c.peak * (c.slot / 1e6)::float8) filter (where c.wasted), 0)
    from costs c
    group by c.day, c.pipeline, c.labels
    on conflict (day, pipeline, labels_digest) do update
    set
        attempts = d.attempts + excluded.attempts,
        slot_time = d.slot_time + excluded.slot_time,
        cpu_time = d.cpu_time + excluded.cpu_time,
        peak_memory_bytes = greatest(d.peak_memory_bytes, excluded.peak_memory_bytes),
        bytes_moved = d.bytes_moved + excluded.bytes_moved,
        memory_time = d.memory_time + excluded.memory_time,
        wasted_attempts = d.wasted_attempts + excluded.wasted_attempts,
        wasted_slot_time = d.wasted_slot_time + excluded.wasted_slot_time,
        wasted_cpu_time = d.wasted_cpu_time + excluded.wasted_cpu_time,
        wasted_peak_memory_bytes = greatest(d.wasted_peak_memory_bytes, excluded.wasted_peak_memory_bytes),
        wasted_bytes_moved = d.wasted_bytes_moved + excluded.wasted_bytes_moved,
        wasted_memory_time = d.wasted_memory_time + excluded.wasted_memory_time
)
select count(*) from removed

-- name: remove_logs
with old as materialized (
    select l.run_id, l.position
    from log_chunks l
    where l.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = l.run_id and r.state < 6)
    order by l.run_id, l.position
    limit $2
), removed as (
    delete from log_chunks l using old where l.run_id = old.run_id and l.position = old.position returning 1
)
select count(*) from removed

-- name: remove_log_packs
-- Their names are noted in the same statement: what is stored under them goes later.
with old as materialized (
    select k.run_id, k.last_position
    from log_packs k
    where k.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = k.run_id and r.state < 6)
    order by k.run_id, k.last_position
    limit $2
    for update of k skip locked
), parts as (
    delete from log_parts p using old where p.run_id = old.run_id and p.pack = old.last_position
), removed as (
    delete from log_packs k using old where k.run_id = old.run_id and k.last_position = old.last_position
    returning k.run_id, k.name
), noted as (
    insert into log_names (name, run_id, at) select name, run_id, 0 from removed
)
select count(*) from removed

-- name: remove_dead_letters
with old as materialized (
    select l.run_id, l.seq
    from dead_letters l
    where l.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = l.run_id and r.state < 6)
    order by l.run_id, l.seq
    limit $2
    for update of l skip locked
), removed as (
    delete from dead_letters l using old where l.run_id = old.run_id and l.seq = old.seq returning 1
)
select count(*) from removed

-- name: free_run_keys
with old as materialized (
    select k.pipeline, k.run_key
    from removed_runs g
    join run_keys k on k.pipeline = g.pipeline and k.run_key = g.run_key and k.run_id = g.run_id
    where g.run_id = any($1::uuid[]) and g.run_key <> ''
    for update of k skip locked
), removed as (
    delete from run_keys k using old where k.pipeline = old.pipeline and k.run_key = old.run_key returning 1
)
select count(*) from removed

-- name: all_gone
update removed_runs g
set gone = true
where g.run_id = any($1::uuid[]) and not g.gone
    and not exists (select from runs c where c.parent_run_id = g.run_id)
    and not exists (
        select from run_keys k where k.pipeline = g.pipeline and k.run_key = g.run_key and k.run_id = g.run_id
    )

-- name: runs_with_logs
-- From each id to the next greater one: a run with many rows costs as little as one with few.
with recursive ids (run_id, number) as (
    (
        select least(
            (select l.run_id from log_chunks l where l.run_id > $1 and l.run_id < $2 order by l.run_id limit 1),
            (select k.run_id from log_packs k where k.run_id > $1 and k.run_id < $2 order by k.run_id limit 1)
        ), 1
    )
    union all
    select
        least(
            (select l.run_id from log_chunks l where l.run_id > ids.run_id and l.run_id < $2 order by l.run_id limit 1),
            (select k.run_id from log_packs k where k.run_id > ids.run_id and k.run_id < $2 order by k.run_id limit 1)
        ),
        ids.number + 1
    from ids
    where ids.run_id is not null and ids.number < $4
)
select ids.run_id, coalesce(r.state >= 6 and r.end_time < $3, false) as free
from ids left join runs r using (run_id)
where ids.run_id is not null
order by ids.run_id

-- name: strays of events=run_events step_runs attempts logs=log_chunks log_packs dead_letters artifacts artifact_uses
with recursive ids (run_id, number) as (
    (select t.run_id, 1 from {table} t where t.run_id > $1 and t.run_id < $2 order by t.run_id limit 1)
    union all
    select
        (select t.run_id from {table} t where t.run_id > ids.run_id and t.run_id < $2 order by t.run_id limit 1),
        ids.number + 1
    from ids
    where ids.run_id is not null and ids.number < $3
)
select
    run_id,
    not exists (select from runs r where r.run_id = ids.run_id)
        and not exists (select from removed_runs g where g.run_id = ids.run_id and not g.gone) as free
from ids
where run_id is not null
order by run_id

-- name: note_strays
with noted as (
    insert into removed_runs (run_id, remove_time)
    select i.run_id, $2
    from unnest($1::uuid[]) as i (run_id)
    where not exists (select from runs r where r.run_id = i.run_id)
    on conflict (run_id) do update set gone = false
    returning 1
)
select count(*) from noted

-- name: count_requests
select count(*)
from requests q
where q.create_time < $1 and not exists (select from runs r where r.run_id = q.run_id and r.state < 6)

-- name: remove_requests
with old as materialized (
    select q.key
    from requests q
    where q.create_time < $1 and not exists (select from runs r where r.run_id = q.run_id and r.state < 6)
    order by q.create_time
    limit $2
), removed as (
    delete from requests where key in (select key from old) returning 1
)
select count(*) from removed

-- name: count_bulk_jobs
select count(*) from bulk_jobs where state <> 1 and end_time < $1

-- name: remove_bulk_jobs
with old as materialized (
    select job_id from bulk_jobs where state <> 1 and end_time < $1 order by job_id limit $2
), removed as (
    delete from bulk_jobs where job_id in (select job_id from old) and state <> 1 returning 1
)
select count(*) from removed

-- name: count_closed_letters
select count(*) from dead_letters where state <> 1 and close_time < $1

-- name: remove_closed_letters
with old as materialized (
    select run_id, seq from dead_letters where state <> 1 and close_time < $1 order by close_time limit $2
), removed as (
    delete from dead_letters l using old where l.run_id = old.run_id and l.seq = old.seq returning 1
)
select count(*) from removed

-- name: count_cache_entries
select count(*) from cache_entries where create_time < $1

-- name: remove_cache_entries
with old as materialized (
    select id from cache_entries where create_time < $1 order by create_time limit $2
), removed as (
    delete from cache_entries e using old where e.id = old.id returning 1
)
select count(*) from removed

-- name: count_expired_entries
select count(*) from cache_entries where expire_time is not null and expire_time < $1

-- name: remove_expired_entries
with old as materialized (
    select id from cache_entries where expire_time is not null and expire_time < $1 order by expire_time limit $2
), removed as (
    delete from cache_entries e using old where e.id = old.id returning 1
)
select count(*) from removed

-- name: count_notes
select count(*) from removed_runs where gone and remove_time < $1

-- name: remove_notes
with old as materialized (
    select run_id from removed_runs where gone and remove_time < $1 order by remove_time limit $2
), removed as (
    delete from removed_runs where run_id in (select run_id from old) and gone returning 1
)
select count(*) from removed

-- name: count_budget_charges
select count(*) from budget_charges where at < $1

-- name: remove_budget_charges
with old as materialized (
    select run_id, first_seq from budget_charges where at < $1 order by at limit $2
), removed as (
    delete from budget_charges where (run_id, first_seq) in (select run_id, first_seq from old) returning 1
)
select count(*) from removed

-- name: count_budget_raises
select count(*) from budget_raises where window_start < $1

-- name: remove_budget_raises
with old as materialized (
    select pipeline, window_start from budget_raises where window_start < $1 limit $2
), removed as (
    delete from budget_raises where (pipeline, window_start) in (select pipeline, window_start from old) returning 1
)
select count(*) from removed

-- name: count_pipelines
select count(*)
from pipelines p
where p.delete_time < $1
    and exists (select from pipeline_versions v where v.pipeline = p.name)
    and not exists (select from runs r where r.pipeline = p.name)

-- name: lock_pipelines
-- The name stays with its count: if it comes back, no number names another content than before.
select p.name
from pipelines p
where p.delete_time < $1
    and exists (select from pipeline_versions v where v.pipeline = p.name)
    and not exists (select from runs r where r.pipeline = p.name)
order by p.name
limit $2
for update of p skip locked

-- name: remove_versions
delete from pipeline_versions where pipeline = any($1::text[])

-- name: versions
select pipeline, number, digest
from pipeline_versions
where (pipeline, number) > ($1::text, $2::int4)
order by pipeline, number
limit $3

-- name: old_bundles
select digest from bundles where create_time < $1 and digest > $2 order by digest limit $3

-- name: count_bundles
select count(*) from bundles where create_time < $1 and digest = any($2::text[])

-- name: remove_bundles
with old as materialized (
    select digest from bundles where create_time < $1 and digest = any($3::text[]) order by digest limit $2
    for update skip locked
), removed as (
    delete from bundles b using old where b.digest = old.digest and b.create_time < $1 returning 1
)
select count(*) from removed

-- name: live_ids
select run_id from runs where owner = $1 and state < 6 and run_id > $2 order by run_id limit $3

-- name: live_of_others
-- Members look after theirs.
select r.owner, count(*) as count
from runs r
where r.state < 6 and r.owner <> $1
    and not exists (select from coordinators c where c.coordinator_id = r.owner and c.state = 3)
group by r.owner
order by r.owner

-- name: removed_at
select remove_time from removed_runs where run_id = $1

-- name: take_turn
select pg_try_advisory_lock(hashtextextended('penstock janitor', 0))

-- name: asynchronously
-- What is removed and lost again in a crash of the database is removed once more: no commit needs to wait for the disk
-- behind it.
select set_config('synchronous_commit', 'off', true)

-- name: remove_artifacts
with old as materialized (
    select a.run_id, a.seq, a.position
    from artifacts a
    where a.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = a.run_id and r.state < 6)
    order by a.run_id, a.seq, a.position
    limit $2
), removed as (
    delete from artifacts a using old
    where a.run_id = old.run_id and a.seq = old.seq and a.position = old.position
    returning 1
)
select count(*) from removed

-- name: remove_artifact_uses
with old as materialized (
    select u.run_id, u.step, u.item, u.token, u.input, u.digest
    from artifact_uses u
    where u.run_id = any($1::uuid[]) and not exists (select from runs r where r.run_id = u.run_id and r.state < 6)
    order by u.run_id, u.step, u.item, u.token, u.input, u.digest
    limit $2
), removed as (
    delete from artifact_uses u using old
    where u.run_id = old.run_id and u.step = old.step and u.item = old.item and u.token = old.token
        and u.input = old.input and u.digest = old.digest
    returning 1
)
select count(*) from removed

