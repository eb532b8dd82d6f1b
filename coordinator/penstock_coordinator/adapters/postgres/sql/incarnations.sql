-- name: one_at_a_time
-- Two processes that take the same id at once: one after the other, so that the later one has the greater epoch.
select pg_advisory_xact_lock(hashtextextended('penstock incarnation ' || $1, 0))

-- name: lock_fences
select lane from fences where coordinator_id = $1 order by lane for update

-- name: next_epoch
select nextval('coordinator_epochs')

-- name: raise_fences
update fences set epoch = $2 where coordinator_id = $1

-- name: add_fences
insert into fences (coordinator_id, lane, epoch)
select $1, lane, $2 from generate_series(0, $3::int4 - 1) as lane
on conflict do nothing

-- name: newest_fence
select max(epoch) as epoch from fences where coordinator_id = $1

-- name: take_over_run
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = 0 and epoch = $2 for key share
)
update runs set owner = $1
from fence
where run_id = $3 and state >= 6
  and exists (select from coordinators c where c.coordinator_id = runs.owner and c.state <> 1)
returning true
