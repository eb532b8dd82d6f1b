-- States: 0 waits, 1 is the head, 2 is gone, 3 is a member. Heads and members own runs.
--
-- Locks are taken in one order everywhere: the advisory lock of claims, joins and burials; rows of coordinators by id;
-- fences; run_keys, requests and runs. An append takes its fence FOR KEY SHARE and what is behind it. What reads rows of
-- coordinators for update or for share therefore never does so behind a fence, nor in one statement with it, where the
-- order is the planner's.

-- name: register
-- A head or a member stays one if it has won since this was asked for ($6: the newest epoch of its own that it knew of).
insert into coordinators (coordinator_id, state, epoch, renewals, lease, address, http_address, began, secrets_key)
values ($1, 0, 0, 1, $2, $3, $4, $5, $7)
on conflict (coordinator_id) do update
set state = 0, renewals = coordinators.renewals + 1,
    lease = excluded.lease, address = excluded.address, http_address = excluded.http_address, began = excluded.began,
    appointed = false, head_epoch = 0, secrets_key = excluded.secrets_key
where coordinators.state not in (1, 3) or coordinators.epoch <= $6

-- name: look
select coordinator_id, state, epoch, renewals, lease, address, http_address, began, appointed, head_epoch, secrets_key
from coordinators
where state <> 2
order by coordinator_id

-- name: renew
update coordinators set renewals = renewals + 1
where coordinator_id = $1 and ((state in (1, 3) and epoch = $2) or (state = 0 and $2 = 0))
returning true

-- name: one_at_a_time
-- Two that claim at once: one after the other, and the later one finds an owner. Joins and burials too.
select pg_advisory_xact_lock(hashtextextended('penstock ownership', 0))

-- name: lock_all
-- A renewal either was before this, and is seen, or waits, and finds that its coordinator is no owner any more.
select coordinator_id, state, epoch, renewals from coordinators order by coordinator_id for update

-- name: lock_fences
-- Of all: nobody else is an owner from here on. Whoever appends reads its fence FOR KEY SHARE: it is over, or waits.
select f.coordinator_id, f.lane from fences f join coordinators c using (coordinator_id)
order by f.coordinator_id, f.lane
for update of f

-- name: next_epoch
select nextval('coordinator_epochs')

-- name: raise_fences
update fences f set epoch = $1 from coordinators c where c.coordinator_id = f.coordinator_id

-- name: add_fences
insert into fences (coordinator_id, lane, epoch)
select $1, lane, $2 from generate_series(0, $3::int4 - 1) as lane
on conflict do nothing

-- name: former_are_gone
-- Whoever was appointed has had its chance.
update coordinators
set state = case when state in (1, 3) then 2 else state end, renewals = renewals + 1, appointed = false
where coordinator_id <> $1 and (state in (1, 3) or appointed)

-- name: own
-- That its own epoch is in head_epoch says that it takes members.
update coordinators set state = 1, epoch = $2, head_epoch = $2, renewals = renewals + 1, appointed = false
where coordinator_id = $1

-- name: wait_shortly
-- Of this transaction, for each lock; $1: with its unit. What waits while it holds others' locks holds them on when its
-- client has long given it up.
select set_config('lock_timeout', $1, true)

-- name: lock_some
select coordinator_id, state, epoch, renewals, head_epoch
from coordinators
where coordinator_id = any($1::text[])
order by coordinator_id
for update

-- name: lock_fences_of
select coordinator_id, lane from fences where coordinator_id = any($1::text[]) order by coordinator_id, lane for update

-- name: raise_fences_of
update fences set epoch = $2 where coordinator_id = any($1::text[])

-- name: has_live_runs
-- Of one whose fences are locked: what its former process had under way is over. What it left may need what is shared
-- with other runs, and that is the head's.
select exists (select from runs where owner = $1 and state < 6)

-- name: join
update coordinators set state = 3, epoch = $2, head_epoch = $3, renewals = renewals + 1, appointed = false
where coordinator_id = $1

-- name: bury
update coordinators set state = 2, renewals = renewals + 1 where coordinator_id = $1

-- name: leavers
-- Who owns nothing by right, and has live runs. Read before anything is locked: mostly there are none.
select c.coordinator_id
from coordinators c
where c.state not in (1, 3) and exists (select from runs r where r.owner = c.coordinator_id and r.state < 6)

-- name: hold_gone
-- One of them that joins at the same time waits, or it has joined, and is left out here.
select coordinator_id
from coordinators
where coordinator_id = any($1::text[]) and state not in (1, 3)
order by coordinator_id
for share

-- name: claim_runs
-- After their fences were raised: what they had under way was committed before, and is read, or finds no fence. The own
-- fence is read as an append reads it: none of an owner's runs is claimed by one that was replaced.
with fence as materialized (
    select from fences where coordinator_id = $1 and lane = 0 and epoch = $2 for key share
), claimed as materialized (
    select r.run_id
    from fence, runs r
    where r.state < 6 and r.owner = any($4::text[])
    limit $3
    for no key update of r
), changed as (
    update runs set owner = $1 from claimed where runs.run_id = claimed.run_id returning runs.run_id
)
select run_id from changed

-- name: adopt
insert into coordinators (coordinator_id, state, epoch, renewals, lease, address, http_address, began)
select distinct coordinator_id, 2, 0, 0, 0, '', '', 0 from fences where coordinator_id = $1
on conflict do nothing

-- name: is_known
select exists (select from coordinators where coordinator_id = $1)

-- name: strangers
select owner, count(*) as count
from runs
where state < 6 and not exists (select from coordinators c where c.coordinator_id = runs.owner)
group by owner
order by owner

-- name: release
with released as (
    update coordinators set state = 2, renewals = renewals + 1
    where coordinator_id = $1 and ((state in (1, 3) and epoch = $2) or (state = 0 and $2 = 0))
    returning 1
)
update coordinators c set appointed = true from released where c.coordinator_id = $3 and c.state = 0

-- name: hint
select pg_notify('penstock_ownership', $1)

-- name: forget
update coordinators set state = 2 where coordinator_id = $1 and state = 0 and renewals = $2
