-- KEYS: mailboxes. ARGV: the most letters of one, the milliseconds that they are kept, then of each letter: the number of
-- its mailbox, kind, sender and body.
local most, ttl = ARGV[1], ARGV[2]
for at = 3, #ARGV, 4 do
    local key = KEYS[tonumber(ARGV[at])]
    redis.call('XADD', key, 'MAXLEN', '~', most, '*',
        'kind', ARGV[at + 1], 'sender', ARGV[at + 2], 'body', ARGV[at + 3])
end
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ttl)
end
