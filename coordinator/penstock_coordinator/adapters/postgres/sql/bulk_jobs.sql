-- name: create
insert into bulk_jobs (job_id, state, create_time, end_time, cursor, description, progress)
values ($1, $2, $3, $4, $5, $6, $7)

-- name: get
select job_id, state, create_time, end_time, cursor, description, progress from bulk_jobs where job_id = $1

-- name: list
select job_id, state, create_time, end_time, cursor, description, progress
from bulk_jobs
where $1::uuid is null or job_id < $1
order by job_id desc
limit $2

-- name: live
select job_id, state, create_time, end_time, cursor, description, progress
from bulk_jobs
where state = 1
order by job_id

-- name: advance
-- Only from the place that the caller knows: two that work on one job do not both count.
update bulk_jobs
set cursor = $3, progress = $4, end_time = $5, state = case when $5::int8 is null then 1 else 2 end
where job_id = $1 and cursor = $2 and state = 1
returning job_id

-- name: stop
update bulk_jobs set state = 3, end_time = $2 where job_id = $1 and state = 1
