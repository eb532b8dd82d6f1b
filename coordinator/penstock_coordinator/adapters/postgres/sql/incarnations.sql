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
