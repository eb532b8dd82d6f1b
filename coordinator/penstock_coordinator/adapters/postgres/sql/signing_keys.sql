-- name: one_at_a_time
-- Of two coordinators that start on a new database at once, one makes the first key.
select pg_advisory_xact_lock(hashtextextended('penstock signing keys', 0))

-- name: keys
select number, secret, create_time, expire_time from signing_keys
where expire_time is null or expire_time > $1
order by number desc

-- name: newest
select number from signing_keys where expire_time is null

-- name: add
insert into signing_keys (secret, create_time) values ($1, $2)
returning number, secret, create_time, expire_time

-- name: remove_expired
delete from signing_keys where expire_time <= $1

-- name: expire
update signing_keys set expire_time = least(expire_time, $1::int8)
