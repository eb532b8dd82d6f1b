-- What coordinators publish for a moment. Times are the database's.

-- name: publish
insert into board (coordinator_id, entry, publish_time, expire_time)
values ($1, $2, clock_timestamp(), clock_timestamp() + $3::float8 * interval '1 second')
on conflict (coordinator_id) do update
set entry = excluded.entry, publish_time = excluded.publish_time, expire_time = excluded.expire_time

-- name: read
select entry, (extract(epoch from clock_timestamp() - publish_time) * 1000000)::bigint as age
from board
where expire_time > clock_timestamp()
order by coordinator_id

-- name: withdraw
-- With it what others left long ago: nobody else would take it away.
delete from board where coordinator_id = $1 or expire_time < clock_timestamp() - interval '1 minute'
