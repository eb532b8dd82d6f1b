-- name: open_session
-- The row is locked before the epoch is drawn, so of two sessions that one agent opens at once the later commit has the
-- greater one.
with known as materialized (
    select agent_id from agents where agent_id = $1 for update
), epoch as materialized (
    select nextval('session_epochs') as number from (select count(*) from known) as locked
)
insert into agents (agent_id, session_epoch, connect_time, goodbye, description)
select $1, number, $2, false, $3 from epoch
on conflict (agent_id) do update
set session_epoch = excluded.session_epoch, connect_time = excluded.connect_time, goodbye = false,
    description = excluded.description
where agents.session_epoch < excluded.session_epoch
returning session_epoch, paused

-- name: close_session
update agents set goodbye = true where agent_id = $1 and session_epoch = $2

-- name: set_paused
update agents set paused = $2 where agent_id = $1 returning true

-- name: get
select agent_id, session_epoch, connect_time, goodbye, description, paused from agents where agent_id = $1

-- name: list
select agent_id, session_epoch, connect_time, goodbye, description, paused
from agents
where agent_id > $1
order by agent_id
limit $2

-- name: open_link
-- As open_session: of two of one agent with one coordinator at once the later commit has the greater number.
with known as materialized (
    select agent_id from agent_links where agent_id = $1 and coordinator_id = $2 for update
), epoch as materialized (
    select nextval('session_epochs') as number from (select count(*) from known) as locked
)
insert into agent_links (agent_id, coordinator_id, session_epoch, boot_id)
select $1, $2, number, $3 from epoch
on conflict (agent_id, coordinator_id) do update
set session_epoch = excluded.session_epoch, boot_id = excluded.boot_id
where agent_links.session_epoch < excluded.session_epoch
returning session_epoch

-- name: list_links
select agent_id, coordinator_id, session_epoch, boot_id
from agent_links
where (agent_id, coordinator_id) > ($1, $2)
order by agent_id, coordinator_id
limit $3
