-- Letters between coordinators, in the order that they came in.

-- name: send
insert into post (recipient, letter, expire_time)
select recipient, letter, clock_timestamp() + $3::float8 * interval '1 second'
from unnest($1::text[], $2::bytea[]) as mail (recipient, letter)

-- name: trim
-- Of each mailbox the newest letters are kept.
delete from post p
using (
    select mailbox.recipient, (
        select letter_id from post q
        where q.recipient = mailbox.recipient order by letter_id desc offset $2 limit 1
    ) as last
    from unnest($1::text[]) as mailbox (recipient)
) as old
where p.recipient = old.recipient and p.letter_id <= old.last

-- name: hint
select pg_notify('penstock_post', recipient) from unnest($1::text[]) as recipient

-- name: receive
with taken as (
    delete from post
    where letter_id = any(array(
        select letter_id from post where recipient = $1 order by letter_id limit $2 for update skip locked
    ))
    returning letter_id, letter, expire_time
)
select letter from taken where expire_time > clock_timestamp() order by letter_id
