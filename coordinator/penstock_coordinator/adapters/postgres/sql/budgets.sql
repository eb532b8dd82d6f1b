-- name: use
select
    coalesce(sum(c.slot_time), 0)::int8 as slot_time,
    coalesce(sum(c.cpu_time), 0)::int8 as cpu_time,
    coalesce(sum(c.price), 0)::int8 as price,
    coalesce(max(r.slot_time), 0)::int8 as raised_slot_time,
    coalesce(max(r.cpu_time), 0)::int8 as raised_cpu_time,
    coalesce(max(r.price), 0)::int8 as raised_price
from (select) as one
left join budget_charges c on c.pipeline = $1::text and c.at >= $2::int8
left join budget_raises r on r.pipeline = $1::text and r.window_start = $2::int8

-- name: raise
insert into budget_raises as b (pipeline, window_start, slot_time, cpu_time, price, requested_by, at)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (pipeline, window_start) do update set
    slot_time = greatest(b.slot_time, excluded.slot_time),
    cpu_time = greatest(b.cpu_time, excluded.cpu_time),
    price = greatest(b.price, excluded.price),
    requested_by = excluded.requested_by,
    at = excluded.at

-- name: insert
insert into budget_charges (run_id, first_seq, pipeline, at, slot_time, cpu_time, price)
select c.*
from unnest($1::uuid[], $2::int8[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::int8[]) as c
