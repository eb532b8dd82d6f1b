-- name: lock_pipeline
-- Versions of one pipeline are counted one after the other.
insert into pipelines (name, create_time, latest)
values ($1, $2, 0)
on conflict (name) do update set delete_time = null
returning latest

-- name: version_of_content
select pipeline, number, digest, step_count, create_time, spec
from pipeline_versions
where pipeline = $1 and digest = $2

-- name: add_version
insert into pipeline_versions (pipeline, number, digest, step_count, create_time, spec)
values ($1, $2, $3, $4, $5, $6)

-- name: count_version
update pipelines set latest = $2 where name = $1

-- name: get_pipeline
select
    p.name, p.create_time as pipeline_create_time,
    v.pipeline, v.number, v.digest, v.step_count, v.create_time, v.spec
from pipelines p
join pipeline_versions v on v.pipeline = p.name and v.number = p.latest
where p.name = $1 and p.delete_time is null

-- name: get_version
select v.pipeline, v.number, v.digest, v.step_count, v.create_time, v.spec
from pipelines p
join pipeline_versions v on v.pipeline = p.name
where p.name = $1 and p.delete_time is null
    and v.number = case when $2::int4 = 0 then p.latest else $2 end

-- name: version_by_digest
select pipeline, number, digest, step_count, create_time, spec
from pipeline_versions
where digest = $1
order by create_time
limit 1

-- name: list_pipelines
select
    p.name, p.create_time as pipeline_create_time,
    v.pipeline, v.number, v.digest, v.step_count, v.create_time, ''::bytea as spec
from pipelines p
join pipeline_versions v on v.pipeline = p.name and v.number = p.latest
where p.name > $1 and p.delete_time is null
order by p.name
limit $2

-- name: list_versions
select v.pipeline, v.number, v.digest, v.step_count, v.create_time, ''::bytea as spec
from pipelines p
join pipeline_versions v on v.pipeline = p.name
where p.name = $1 and p.delete_time is null and ($2::int4 is null or v.number < $2)
order by v.number desc
limit $3

-- name: delete_pipeline
update pipelines set delete_time = $2 where name = $1 and delete_time is null returning name
