-- name: occupy
-- A row for each key, so that there is one to lock. It names no run until `keep`.
insert into run_keys (pipeline, run_key, run_id)
select k.pipeline, k.run_key, '00000000-0000-0000-0000-000000000000'
from unnest($1::text[], $2::text[]) as k (pipeline, run_key)
order by 1, 2
on conflict do nothing

-- name: lock
select k.pipeline, k.run_key, k.run_id
from run_keys as k
join unnest($1::text[], $2::text[]) as wanted (pipeline, run_key)
    on k.pipeline = wanted.pipeline and k.run_key = wanted.run_key
order by 1, 2
for update of k

-- name: states
-- A statement of its own: it sees what those committed that `lock` waited for.
select run_id, state from runs where run_id = any($1::uuid[])

-- name: keep
insert into run_keys as k (pipeline, run_key, run_id)
select c.pipeline, c.run_key, c.run_id
from unnest($1::text[], $2::text[], $3::uuid[]) as c (pipeline, run_key, run_id)
on conflict (pipeline, run_key) do update set run_id = excluded.run_id

-- name: free
delete from run_keys as k
using unnest($1::text[], $2::text[]) as c (pipeline, run_key)
where k.pipeline = c.pipeline and k.run_key = c.run_key

-- name: holders
select k.pipeline, k.run_key, k.run_id, runs.state
from run_keys as k
join unnest($1::text[], $2::text[]) as wanted (pipeline, run_key)
    on k.pipeline = wanted.pipeline and k.run_key = wanted.run_key
join runs on runs.run_id = k.run_id
