-- The one statement of a commit, in five sizes, and two more for a record alone: what is not in a batch costs nothing.
--
-- Why it is safe against a newer incarnation: the fence row is read FOR KEY SHARE in the same statement that inserts,
-- and every insert joins it. A take-over locks the row FOR UPDATE before it raises the epoch. So either the take-over
-- waits until this transaction has ended, or this statement waits for the take-over, and reads the row again as it
-- then is: without the epoch, no row, nothing inserted.
--
-- A record that came with a request depends on it (`gate`: the request's key, '' for none): if the request was
-- answered before, the insert into `requests` leaves it out, and the record and those that depend on it are left out
-- too. The OR keeps the planner from making a join of the IN: a hashed subplan has no bad plan.
--
-- A run may be started of what its coordinator remembers as the newest version (`newest`: its number). If another one is
-- by now, or the pipeline is deleted, the request is not stored, and so nothing of the run.

-- name: commit_events
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share
), events as (
    insert into run_events (run_id, first_seq, last_seq, at, payload)
    select e.*
    from fence, unnest($4::uuid[], $5::int8[], $6::int8[], $7::int8[], $8::bytea[]) as e
)
select count(*) from fence

-- name: commit_steps
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share
), events as (
    insert into run_events (run_id, first_seq, last_seq, at, payload)
    select e.*
    from fence, unnest($4::uuid[], $5::int8[], $6::int8[], $7::int8[], $8::bytea[]) as e
), ended_steps as (
    insert into step_runs (
        run_id, step, item, generation, state, attempts, ready_time, start_time, end_time, agent, output, failure
    )
    select s.*
    from fence, unnest(
        $9::uuid[], $10::int4[], $11::int4[], $12::int4[], $13::int2[], $14::int4[],
        $15::int8[], $16::int8[], $17::int8[], $18::text[], $19::bytea[], $20::bytea[]
    ) as s
), ended_attempts as (
    insert into attempts (run_id, step, item, number, token, outcome, start_time, end_time, agent, detail)
    select a.*
    from fence, unnest(
        $21::uuid[], $22::int4[], $23::int4[], $24::int4[], $25::int8[], $26::int2[],
        $27::int8[], $28::int8[], $29::text[], $30::bytea[]
    ) as a
)
select count(*) from fence

-- name: commit_step_alone
-- Of one record with one step run and one attempt: values instead of arrays cost a third less, in the client and here.
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share
), events as (
    insert into run_events (run_id, first_seq, last_seq, at, payload)
    select $4::uuid, $5::int8, $6::int8, $7::int8, $8::bytea from fence
), ended_step as (
    insert into step_runs (
        run_id, step, item, generation, state, attempts, ready_time, start_time, end_time, agent, output, failure
    )
    select
        $4::uuid, $9::int4, $10::int4, $11::int4, $12::int2, $13::int4, $14::int8, $15::int8, $16::int8, $17::text,
        $18::bytea, $19::bytea
    from fence
), ended_attempt as (
    insert into attempts (run_id, step, item, number, token, outcome, start_time, end_time, agent, detail)
    select
        $4::uuid, $20::int4, $21::int4, $22::int4, $23::int8, $24::int2, $25::int8, $26::int8, $27::text, $28::bytea
    from fence
)
select count(*) from fence

-- name: commit_start_alone
-- Of one record with a request and a new run.
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share
), accepted as materialized (
    insert into requests (key, digest, answer, run_id, create_time)
    select $8::bytea, $9::bytea, $10::bytea, $4::uuid, $7::int8
    from fence
    where $12::int4 is null or $12::int4 = (
        select p.latest from pipelines p where p.name = $11::text and p.delete_time is null
    )
    on conflict do nothing
    returning key
), events as (
    insert into run_events (run_id, first_seq, last_seq, at, payload)
    select $4::uuid, $5::int8, $6::int8, $7::int8, $13::bytea from accepted
), new_run as (
    insert into runs (
        run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
        labels, reason, trace_context, parameters, summary, output, parent_run_id, run_key, origin
    )
    select
        $4::uuid, $14::text, $15::int4, $16::text, $17::text, $18::int2, $19::int8, $20::int8, $21::int8,
        $22::text::text[], $23::bytea, $24::bytea, $25::bytea, $26::bytea, $27::bytea, $28::uuid, $29::text, $30::bytea
    from accepted
)
select count(*), array(select key from accepted) from fence

-- name: commit_ends
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share
), events as (
    insert into run_events (run_id, first_seq, last_seq, at, payload)
    select e.*
    from fence, unnest($4::uuid[], $5::int8[], $6::int8[], $7::int8[], $8::bytea[]) as e
), ended_steps as (
    insert into step_runs (
        run_id, step, item, generation, state, attempts, ready_time, start_time, end_time, agent, output, failure
    )
    select s.*
    from fence, unnest(
        $9::uuid[], $10::int4[], $11::int4[], $12::int4[], $13::int2[], $14::int4[],
        $15::int8[], $16::int8[], $17::int8[], $18::text[], $19::bytea[], $20::bytea[]
    ) as s
), ended_attempts as (
    insert into attempts (run_id, step, item, number, token, outcome, start_time, end_time, agent, detail)
    select a.*
    from fence, unnest(
        $21::uuid[], $22::int4[], $23::int4[], $24::int4[], $25::int8[], $26::int2[],
        $27::int8[], $28::int8[], $29::text[], $30::bytea[]
    ) as a
), changes as (
    update runs
    set
        state = c.state,
        reason = coalesce(c.reason, runs.reason),
        start_time = coalesce(c.start_time, runs.start_time),
        -- What a former generation ended with is not the run's any more.
        end_time = case when c.generation is null then coalesce(c.end_time, runs.end_time) else c.end_time end,
        summary = case when c.generation is null then coalesce(c.summary, runs.summary) else c.summary end,
        output = case when c.generation is null then coalesce(c.output, runs.output) else c.output end,
        generation = coalesce(c.generation, runs.generation),
        version_number = coalesce(c.version_number, runs.version_number),
        version_digest = coalesce(c.version_digest, runs.version_digest),
        parameters = coalesce(c.parameters, runs.parameters)
    from fence, unnest(
        $31::uuid[], $32::int2[], $33::bytea[], $34::int8[], $35::int8[], $36::bytea[], $37::bytea[],
        $38::int4[], $39::int4[], $40::text[], $41::bytea[]
    ) as c (
        run_id, state, reason, start_time, end_time, summary, output, generation, version_number, version_digest,
        parameters
    )
    where runs.run_id = c.run_id
)
select count(*) from fence

-- name: commit_starts
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share
), accepted as materialized (
    insert into requests (key, digest, answer, run_id, create_time)
    select q.key, q.digest, q.answer, q.run_id, q.create_time
    from fence, unnest($10::bytea[], $11::bytea[], $12::bytea[], $13::uuid[], $14::int8[], $15::text[], $16::int4[])
        as q (key, digest, answer, run_id, create_time, pipeline, newest)
    where q.newest is null or q.newest = (
        select p.latest from pipelines p where p.name = q.pipeline and p.delete_time is null
    )
    on conflict do nothing
    returning key
), events as (
    insert into run_events (run_id, first_seq, last_seq, at, payload)
    select e.run_id, e.first_seq, e.last_seq, e.at, e.payload
    from fence, unnest($4::uuid[], $5::int8[], $6::int8[], $7::int8[], $8::bytea[], $9::bytea[])
        as e (run_id, first_seq, last_seq, at, payload, gate)
    where e.gate = '' or e.gate in (select key from accepted)
), new_runs as (
    insert into runs (
        run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
        labels, reason, trace_context, parameters, summary, output, parent_run_id, run_key, origin
    )
    select
        r.run_id, r.pipeline, r.version_number, r.version_digest, r.owner, r.state, r.create_time, r.start_time,
        r.end_time, r.labels::text[], r.reason, r.trace_context, r.parameters, r.summary, r.output, r.parent_run_id,
        r.run_key, r.origin
    from fence, unnest(
        $17::uuid[], $18::text[], $19::int4[], $20::text[], $21::text[], $22::int2[], $23::int8[],
        $24::int8[], $25::int8[], $26::text[], $27::bytea[], $28::bytea[], $29::bytea[], $30::bytea[],
        $31::bytea[], $32::uuid[], $33::text[], $34::bytea[], $35::bytea[]
    ) as r (
        run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
        labels, reason, trace_context, parameters, summary, output, parent_run_id, run_key, origin, gate
    )
    where r.gate = '' or r.gate in (select key from accepted)
)
select count(*), array(select key from accepted) from fence

-- name: commit_all
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share
), accepted as materialized (
    insert into requests (key, digest, answer, run_id, create_time)
    select q.key, q.digest, q.answer, q.run_id, q.create_time
    from fence, unnest($34::bytea[], $35::bytea[], $36::bytea[], $37::uuid[], $38::int8[], $39::text[], $40::int4[])
        as q (key, digest, answer, run_id, create_time, pipeline, newest)
    where q.newest is null or q.newest = (
        select p.latest from pipelines p where p.name = q.pipeline and p.delete_time is null
    )
    on conflict do nothing
    returning key
), events as (
    insert into run_events (run_id, first_seq, last_seq, at, payload)
    select e.run_id, e.first_seq, e.last_seq, e.at, e.payload
    from fence, unnest($4::uuid[], $5::int8[], $6::int8[], $7::int8[], $8::bytea[], $31::bytea[])
        as e (run_id, first_seq, last_seq, at, payload, gate)
    where e.gate = '' or e.gate in (select key from accepted)
), ended_steps as (
    insert into step_runs (
        run_id, step, item, generation, state, attempts, ready_time, start_time, end_time, agent, output, failure
    )
    select
        s.run_id, s.step, s.item, s.generation, s.state, s.attempts, s.ready_time, s.start_time, s.end_time,
        s.agent, s.output, s.failure
    from fence, unnest(
        $9::uuid[], $10::int4[], $11::int4[], $12::int4[], $13::int2[], $14::int4[],
        $15::int8[], $16::int8[], $17::int8[], $18::text[], $19::bytea[], $20::bytea[], $32::bytea[]
    ) as s (
        run_id, step, item, generation, state, attempts, ready_time, start_time, end_time, agent, output, failure, gate
    )
    where s.gate = '' or s.gate in (select key from accepted)
), ended_attempts as (
    insert into attempts (run_id, step, item, number, token, outcome, start_time, end_time, agent, detail)
    select
        a.run_id, a.step, a.item, a.number, a.token, a.outcome, a.start_time, a.end_time, a.agent, a.detail
    from fence, unnest(
        $21::uuid[], $22::int4[], $23::int4[], $24::int4[], $25::int8[], $26::int2[],
        $27::int8[], $28::int8[], $29::text[], $30::bytea[], $33::bytea[]
    ) as a (run_id, step, item, number, token, outcome, start_time, end_time, agent, detail, gate)
    where a.gate = '' or a.gate in (select key from accepted)
), new_runs as (
    insert into runs (
        run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
        labels, reason, trace_context, parameters, summary, output, parent_run_id, run_key, origin
    )
    select
        r.run_id, r.pipeline, r.version_number, r.version_digest, r.owner, r.state, r.create_time, r.start_time,
        r.end_time, r.labels::text[], r.reason, r.trace_context, r.parameters, r.summary, r.output, r.parent_run_id,
        r.run_key, r.origin
    from fence, unnest(
        $41::uuid[], $42::text[], $43::int4[], $44::text[], $45::text[], $46::int2[], $47::int8[],
        $48::int8[], $49::int8[], $50::text[], $51::bytea[], $52::bytea[], $53::bytea[], $54::bytea[],
        $55::bytea[], $56::uuid[], $57::text[], $58::bytea[], $59::bytea[]
    ) as r (
        run_id, pipeline, version_number, version_digest, owner, state, create_time, start_time, end_time,
        labels, reason, trace_context, parameters, summary, output, parent_run_id, run_key, origin, gate
    )
    where r.gate = '' or r.gate in (select key from accepted)
), changes as (
    update runs
    set
        state = c.state,
        reason = coalesce(c.reason, runs.reason),
        start_time = coalesce(c.start_time, runs.start_time),
        -- What a former generation ended with is not the run's any more.
        end_time = case when c.generation is null then coalesce(c.end_time, runs.end_time) else c.end_time end,
        summary = case when c.generation is null then coalesce(c.summary, runs.summary) else c.summary end,
        output = case when c.generation is null then coalesce(c.output, runs.output) else c.output end,
        generation = coalesce(c.generation, runs.generation),
        version_number = coalesce(c.version_number, runs.version_number),
        version_digest = coalesce(c.version_digest, runs.version_digest),
        parameters = coalesce(c.parameters, runs.parameters)
    from fence, unnest(
        $60::uuid[], $61::int2[], $62::bytea[], $63::int8[], $64::int8[], $65::bytea[], $66::bytea[],
        $67::int4[], $68::int4[], $69::text[], $70::bytea[], $71::bytea[]
    ) as c (
        run_id, state, reason, start_time, end_time, summary, output, generation, version_number, version_digest,
        parameters, gate
    )
    where runs.run_id = c.run_id and (c.gate = '' or c.gate in (select key from accepted))
)
select count(*), array(select key from accepted) from fence

-- name: hold_fence
-- For a transaction of several statements: from here to its end no take-over succeeds.
select from fences where coordinator_id = $1 and lane = $2 and epoch = $3 for key share

-- name: hold_runs
-- The janitor removes a run's row with a lock of its own: either it is gone here, or it stays.
select run_id from runs where run_id = any($1::uuid[]) order by run_id for no key update

-- name: await_former
-- Waits for a transaction of ours whose end we did not hear, which may still hold the row.
select epoch from fences where coordinator_id = $1 and lane = $2 for update

-- name: stored_of
select e.run_id, e.first_seq, e.last_seq, e.payload
from unnest($1::uuid[], $2::int8[]) as wanted (run_id, first_seq)
join run_events e using (run_id, first_seq)

-- name: requests_of
select key, digest, answer from requests where key = any($1::bytea[])

-- name: read
-- The record that holds the number may begin before it.
select first_seq, last_seq, payload, at
from run_events
where run_id = $1 and last_seq >= $2 and first_seq >= coalesce(
    (select first_seq from run_events where run_id = $1 and first_seq <= $2 order by first_seq desc limit 1), $2
)
order by first_seq
limit $3

-- name: read_many
select run_id, first_seq, last_seq, payload, at
from run_events
where run_id = any($1::uuid[]) and ($2::uuid is null or (run_id, first_seq) > ($2, $3::int8))
order by run_id, first_seq
limit $4

-- name: read_since
-- Run by run, by the key: most of them have nothing new.
select known.run_id, e.first_seq, e.last_seq, e.payload, e.at
from unnest($1::uuid[], $2::int8[]) as known (run_id, last_seq)
cross join lateral (
    select first_seq, last_seq, payload, at
    from run_events
    where run_events.run_id = known.run_id and first_seq > known.last_seq
    order by first_seq
    limit $3
) e
order by known.run_id, e.first_seq
limit $3
