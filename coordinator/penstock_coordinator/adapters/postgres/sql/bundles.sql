-- name: present
select digest from bundles where digest = any($1::text[])

-- name: put
insert into bundles (digest, create_time, content)
values ($1, $2, $3)
on conflict do nothing
returning digest

-- name: size
select octet_length(content) from bundles where digest = $1

-- name: read
select substring(content from $2::int4 for $3::int4) from bundles where digest = $1

-- name: touch
-- Whoever removes bundles that nobody asks for has them locked: this waits, and then tells that they are gone.
update bundles set create_time = $2 where digest = any($1::text[]) and create_time < $2 - 3600000000
