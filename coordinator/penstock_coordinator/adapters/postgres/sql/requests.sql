-- name: find
select digest, answer from requests where key = $1

-- name: find_many
select key, digest, answer from requests where key = any($1::bytea[])

-- name: remember
-- One row if it is new, none if it is there already.
insert into requests (key, digest, answer, run_id, create_time)
values ($1, $2, $3, null, $4)
on conflict do nothing
returning key

