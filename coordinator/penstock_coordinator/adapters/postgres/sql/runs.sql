-- name: get
select
    run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
    labels, reason, trace_context, parameters, summary, generation, parent_run_id, run_key, origin, output,
    coalesce((select e.last_seq from run_events e where e.run_id = $1 order by e.first_seq desc limit 1), 0) as last_seq
from runs
where run_id = $1

-- name: get_many
select
    run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
    labels, reason, trace_context, parameters, summary, generation, parent_run_id, run_key, origin, output,
    coalesce(
        (select e.last_seq from run_events e where e.run_id = runs.run_id order by e.first_seq desc limit 1), 0
    ) as last_seq
from runs
where run_id = any($1::uuid[])

-- name: owners
select run_id, owner, state from runs where run_id = any($1::uuid[])

-- name: list
-- Lists pass over what can be large: parameters come with `get`.
select
    run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
    labels, reason, trace_context, parameters, summary, generation, parent_run_id, run_key, origin,
    null::bytea as output, 0::int8 as last_seq
from runs
where ($1::uuid is null or run_id < $1)
    and ($2::text is null or pipeline = $2)
    and ($3::int2[] is null or state = any($3))
    and ($4::text[] is null or (labels <> '{}' and labels @> $4))
    and ($5::uuid is null or parent_run_id = $5)
    and ($6::text is null or (run_key <> '' and run_key = $6))
    and (not $7::boolean or parent_run_id is null)
order by run_id desc
limit $8

-- name: live
select
    run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
    labels, reason, trace_context, parameters, summary, generation, parent_run_id, run_key, origin,
    null::bytea as output, 0::int8 as last_seq
from runs
where owner = $1 and state < 6
order by run_id

-- name: count_live
select count(*) from runs where pipeline = $1 and state < 6

-- name: step_runs
select distinct on (step, item)
    step, item, generation, state, attempts, output, failure, agent, ready_time, start_time, end_time, source
from step_runs
where run_id = $1 and (step, item) between ($2, $3) and ($4, $5) and generation <= $6
order by step, item, generation desc

-- name: whole_steps
-- Beside the rows of items, which may be many.
select distinct on (step)
    step, item, generation, state, attempts, output, failure, agent, ready_time, start_time, end_time, source
from step_runs
where run_id = $1 and step between $2 and $3 and item = -1 and generation <= $4
order by step, generation desc

-- name: attempts
select step, item, number, token, outcome, agent, start_time, end_time, detail
from attempts
where run_id = $1 and step = $2 and item = $3
order by number, token

-- name: outputs_size
-- How much `outputs` gives. Nothing is read for it but lengths.
select coalesce(sum(octet_length(output)), 0)::bigint
from (
    select distinct on (item) item, state, output
    from step_runs
    where run_id = $1 and step = $2 and generation <= $3
    order by item, generation desc
) as newest
where state = 5

-- name: outputs
-- 5: completed. Of a step run with several generations the newest counts.
select item, output
from (
    select distinct on (item) item, state, output
    from step_runs
    where run_id = $1 and step = $2 and generation <= $3
    order by item, generation desc
) as newest
where state = 5
order by item
