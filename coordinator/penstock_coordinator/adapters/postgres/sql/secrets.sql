-- name: put
insert into secrets (name, key_id, content, create_time, update_time) values ($1, $2, $3, $4, $4)
on conflict (name) do update
set key_id = excluded.key_id, content = excluded.content, update_time = excluded.update_time
returning name, key_id, content, create_time, update_time

-- name: get
select name, key_id, content, create_time, update_time from secrets where name = any($1::text[]) order by name

-- name: list
select name, key_id, content, create_time, update_time from secrets where name > $1 order by name limit $2

-- name: delete
delete from secrets where name = $1 returning name

-- name: replace
-- Not over a value that was set since.
update secrets set key_id = $3, content = $4 where name = $1 and content = $2 returning name
