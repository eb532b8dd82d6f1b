-- Who made and took which artifacts. "$n" with a null means any.

-- name: list
select
    a.run_id, a.seq, a.position, a.step, a.item, a.generation, a.attempt, a.token, a.pipeline, a.version_digest, a.step_name, a.display_name, a.code_digest, a.at, a.digest,
    a.name, a.size, a.media_type, a.kind, a.codec, a.metadata, coalesce(v.number, 0) as version_number
from artifacts a left join pipeline_versions v on v.pipeline = a.pipeline and v.digest = a.version_digest
where ($1::uuid is null or a.run_id = $1)
    and ($2::text is null or a.step_name = $2)
    and ($3::text is null or a.digest = $3)
    and ($4::text is null or a.pipeline = $4)
    and ($5::bytea is null or a.name = $5)
    and ($6::int8 is null or (a.at, a.run_id, a.seq, a.position) < ($6, $7::uuid, $8::int8, $9::int4))
order by a.at desc, a.run_id desc, a.seq desc, a.position desc
limit $10

-- name: get
select
    a.run_id, a.seq, a.position, a.step, a.item, a.generation, a.attempt, a.token, a.pipeline, a.version_digest, a.step_name, a.display_name, a.code_digest, a.at, a.digest,
    a.name, a.size, a.media_type, a.kind, a.codec, a.metadata, coalesce(v.number, 0) as version_number
from artifacts a left join pipeline_versions v on v.pipeline = a.pipeline and v.digest = a.version_digest
where a.run_id = $1 and a.seq = $2 and a.position = $3

-- name: makers_of
select
    a.run_id, a.seq, a.position, a.step, a.item, a.generation, a.attempt, a.token, a.pipeline, a.version_digest, a.step_name, a.display_name, a.code_digest, a.at, a.digest,
    a.name, a.size, a.media_type, a.kind, a.codec, a.metadata, coalesce(v.number, 0) as version_number
from artifacts a left join pipeline_versions v on v.pipeline = a.pipeline and v.digest = a.version_digest
where a.digest = any($1::text[])
order by a.at desc, a.run_id desc, a.seq desc, a.position desc
limit $2

-- name: made_by
select
    a.run_id, a.seq, a.position, a.step, a.item, a.generation, a.attempt, a.token, a.pipeline, a.version_digest, a.step_name, a.display_name, a.code_digest, a.at, a.digest,
    a.name, a.size, a.media_type, a.kind, a.codec, a.metadata, coalesce(v.number, 0) as version_number
from artifacts a left join pipeline_versions v on v.pipeline = a.pipeline and v.digest = a.version_digest
where a.run_id = $1 and a.step = $2 and a.item = $3 and a.token = $4
order by a.seq, a.position

-- name: known
select distinct digest from artifacts where digest = any($1::text[])

-- name: needed
-- What was given to a live run, or to a run below one, and what the cache has.
select d.digest
from unnest($1::text[]) as d (digest)
where exists (select from artifacts a where a.digest = d.digest)
    or exists (
        select from artifact_uses u where u.digest = d.digest and exists (with recursive up (run_id, above) as (
        select r.run_id, r.parent_run_id from runs r where r.run_id = u.run_id
        union
        select r.run_id, r.parent_run_id from up join runs r on r.run_id = up.above
    )
    select from up join runs r on r.run_id = up.run_id where r.state < 6)
    )
    or exists (select from cache_entries e where e.artifacts <> '{}' and e.artifacts @> array[d.digest])

-- name: of_run
select digest from artifacts where run_id = $1 and digest = any($2::text[])
union
select digest from artifact_uses where run_id = $1 and digest = any($2::text[])

-- name: uses_of
select
    a.run_id, a.step, a.item, a.generation, a.attempt, a.token, a.pipeline, a.version_digest, a.step_name, a.display_name, a.code_digest, a.at, a.digest, a.input, coalesce(v.number, 0) as version_number
from artifact_uses a left join pipeline_versions v on v.pipeline = a.pipeline and v.digest = a.version_digest
where a.run_id = $1 and a.step = $2 and a.item = $3 and a.token = $4
order by a.input, a.digest

-- name: users_of
select
    a.run_id, a.step, a.item, a.generation, a.attempt, a.token, a.pipeline, a.version_digest, a.step_name, a.display_name, a.code_digest, a.at, a.digest, a.input, coalesce(v.number, 0) as version_number
from artifact_uses a left join pipeline_versions v on v.pipeline = a.pipeline and v.digest = a.version_digest
where a.digest = any($1::text[]) and a.step >= 0
order by a.at, a.run_id, a.step, a.item, a.token, a.input, a.digest
limit $2

-- name: insert
-- Of one batch of records, in the transaction that stores them.
insert into artifacts (
    run_id, seq, position, step, item, generation, attempt, token, pipeline, version_digest, step_name, display_name, code_digest, at, digest,
    name, size, media_type, kind, codec, metadata
)
select a.*
from unnest(
    $1::uuid[], $2::int8[], $3::int4[], $4::int4[], $5::int4[], $6::int4[], $7::int4[], $8::int8[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::text[], $14::int8[], $15::text[], $16::bytea[], $17::int8[],
    $18::bytea[], $19::text[], $20::bytea[], $21::bytea[]
) as a

-- name: insert_uses
insert into artifact_uses (
    run_id, step, item, generation, attempt, token, pipeline, version_digest, step_name, display_name, code_digest, at, digest, input
)
select u.*
from unnest(
    $1::uuid[], $2::int4[], $3::int4[], $4::int4[], $5::int4[], $6::int8[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::int8[], $13::text[], $14::text[]
) as u
on conflict do nothing

-- name: old
select a.run_id, a.seq, a.position
from artifacts a
where ($1::int8 is null or a.at < $1)
    and ($2::text is null or a.pipeline = $2)
    and a.pipeline <> all($3::text[])
    and ($4::int4 = 0 or (
        select count(*)
        from (
            select from artifacts n
            where n.pipeline = a.pipeline and n.step_name = a.step_name and n.name = a.name
                and (n.at, n.run_id, n.seq, n.position) > (a.at, a.run_id, a.seq, a.position)
            limit $4
        ) as newer
    ) >= $4)
    and not exists (with recursive up (run_id, above) as (
        select r.run_id, r.parent_run_id from runs r where r.run_id = a.run_id
        union
        select r.run_id, r.parent_run_id from up join runs r on r.run_id = up.above
    )
    select from up join runs r on r.run_id = up.run_id where r.state < 6)
    and not exists (select from cache_entries e where e.artifacts <> '{}' and e.artifacts @> array[a.digest])
    and not exists (
        select from artifact_uses u where u.digest = a.digest and exists (with recursive up (run_id, above) as (
        select r.run_id, r.parent_run_id from runs r where r.run_id = u.run_id
        union
        select r.run_id, r.parent_run_id from up join runs r on r.run_id = up.above
    )
    select from up join runs r on r.run_id = up.run_id where r.state < 6)
    )
order by a.at, a.run_id, a.seq, a.position
limit $5

-- name: count_old
select count(*)
from artifacts a
where ($1::int8 is null or a.at < $1)
    and ($2::text is null or a.pipeline = $2)
    and a.pipeline <> all($3::text[])
    and ($4::int4 = 0 or (
        select count(*)
        from (
            select from artifacts n
            where n.pipeline = a.pipeline and n.step_name = a.step_name and n.name = a.name
                and (n.at, n.run_id, n.seq, n.position) > (a.at, a.run_id, a.seq, a.position)
            limit $4
        ) as newer
    ) >= $4)
    and not exists (with recursive up (run_id, above) as (
        select r.run_id, r.parent_run_id from runs r where r.run_id = a.run_id
        union
        select r.run_id, r.parent_run_id from up join runs r on r.run_id = up.above
    )
    select from up join runs r on r.run_id = up.run_id where r.state < 6)
    and not exists (select from cache_entries e where e.artifacts <> '{}' and e.artifacts @> array[a.digest])
    and not exists (
        select from artifact_uses u where u.digest = a.digest and exists (with recursive up (run_id, above) as (
        select r.run_id, r.parent_run_id from runs r where r.run_id = u.run_id
        union
        select r.run_id, r.parent_run_id from up join runs r on r.run_id = up.above
    )
    select from up join runs r on r.run_id = up.run_id where r.state < 6)
    )

-- name: remove
with removed as (
    delete from artifacts a
    using unnest($1::uuid[], $2::int8[], $3::int4[]) as d (run_id, seq, position)
    where a.run_id = d.run_id and a.seq = d.seq and a.position = d.position
    returning 1
)
select count(*) from removed
