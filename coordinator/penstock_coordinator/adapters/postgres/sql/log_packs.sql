-- name: oldest_rows
-- The first row always, and then as many as fit.
select position, step, item, attempt, at, lines
from (
    select l.*, sum(octet_length(l.lines)) over (order by l.position) - octet_length(l.lines) as before
    from (select * from log_chunks where run_id = $1 order by position limit $2) l
) l
where before = 0 or before + octet_length(lines) <= $3
order by position

-- name: unpacked
-- From each id to the next greater one, as a run may have many rows.
with recursive ids (run_id, number) as (
    (select l.run_id, 1 from log_chunks l where l.run_id > $1 order by l.run_id limit 1)
    union all
    select
        (select l.run_id from log_chunks l where l.run_id > ids.run_id order by l.run_id limit 1),
        ids.number + 1
    from ids
    where ids.run_id is not null and ids.number < $2
)
select ids.run_id, rows.size, rows.since
from ids, lateral (
    select sum(octet_length(l.lines))::int8 as size, min(l.at) as since from log_chunks l where l.run_id = ids.run_id
) rows
where ids.run_id is not null
order by ids.run_id

-- name: unpacked_of
select sum(octet_length(lines))::int8 as size, min(at) as since from log_chunks where run_id = $1

-- name: claim_name
insert into log_names (name, run_id, at) values ($1, $2, $3)

-- name: take_name
delete from log_names where name = $1 and at > 0 returning 1

-- name: take_rows
with taken as (
    delete from log_chunks where run_id = $1 and position between $2 and $3 returning 1
)
select count(*) from taken

-- name: add_pack
insert into log_packs (run_id, last_position, first_position, name, rows, lines, size, digest, first_time, last_time)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: add_parts
insert into log_parts
    (run_id, pack, step, item, attempt, lines, first_number, last_number, first_time, last_time)
select $1, $2, p.*
from unnest($3::int4[], $4::int4[], $5::int4[], $6::int4[], $7::int8[], $8::int8[], $9::int8[], $10::int8[]) as p

-- name: packs
select run_id, name, first_position, last_position, rows, lines, size, digest, first_time, last_time
from log_packs k
where k.run_id = $1 and k.last_position > $2 and ($3::int8 is null or k.first_position < $3)
    and ($7::int8 is null or k.last_time >= $7)
    and (
        ($4::int4 is null and $5::int4 is null and $6::int4 is null)
        or exists (
            select from log_parts p
            where p.run_id = k.run_id and p.pack = k.last_position
                and ($4::int4 is null or p.step = $4) and ($5::int4 is null or p.item = $5)
                and ($6::int4 is null or p.attempt = $6)
        )
    )
order by k.last_position
limit $8

-- name: last_packs
select run_id, name, first_position, last_position, rows, lines, size, digest, first_time, last_time
from log_packs k
where k.run_id = $1 and ($2::int8 is null or k.first_position < $2)
    and ($6::int8 is null or k.last_time >= $6)
    and (
        ($3::int4 is null and $4::int4 is null and $5::int4 is null)
        or exists (
            select from log_parts p
            where p.run_id = k.run_id and p.pack = k.last_position
                and ($3::int4 is null or p.step = $3) and ($4::int4 is null or p.item = $4)
                and ($5::int4 is null or p.attempt = $5)
        )
    )
order by k.last_position desc
limit $7

-- name: parts
select step, item, attempt, lines, first_number, last_number, first_time, last_time
from log_parts
where run_id = $1 and pack = $2
    and ($3::int4 is null or step = $3) and ($4::int4 is null or item = $4) and ($5::int4 is null or attempt = $5)
    and ($6::int8 is null or last_time >= $6)
order by step, item, attempt

-- name: unused_names
-- From now on nobody can make a pack of them: whoever wanted to has taken too long.
with old as materialized (
    select name from log_names where at < $1 order by at, name limit $2 for update skip locked
)
update log_names n set at = 0 from old where n.name = old.name returning n.name

-- name: forget_names
delete from log_names where name = any($1::text[])
