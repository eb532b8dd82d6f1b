-- Take the oldest letters. KEYS: a mailbox. ARGV: at most how many, and the milliseconds that a letter is kept.
-- Ids are not counted on to grow over a restart or a failover: what is there is taken, wherever it stands.
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
local found = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
local answer, ids = {}, {}
for _, entry in ipairs(found) do
    ids[#ids + 1] = entry[1]
    if tonumber(string.match(entry[1], '^%d+')) >= oldest then
        answer[#answer + 1] = entry[2]
    end
end
if #ids > 0 then
    redis.call('XDEL', KEYS[1], unpack(ids))
end
return answer
