-- name: find
select digest, answer from requests where key = $1

-- name: remember
-- One row if it is new, none if it is there already.
insert into requests (key, digest, answer, run_id, create_time)
values ($1, $2, $3, null, $4)
on conflict do nothing
returning key

-- name: forget
with old as (
    select key
    from requests
    where create_time < $1
        and not exists (select from runs where runs.run_id = requests.run_id and runs.state < 6)
    limit $2
), forgotten as (
    delete from requests where key in (select key from old) returning key
)
select count(*) from forgotten
