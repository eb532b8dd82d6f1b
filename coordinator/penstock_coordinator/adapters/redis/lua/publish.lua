-- KEYS: who is on the board, the coordinator's queues, its runs.
-- ARGV: its id, the ttl in milliseconds, how many fields and values of queues follow, these, then those of runs.
local id, ttl, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function fill(key, first, last)
    redis.call('DEL', key)
    for at = first, last, 1000 do
        redis.call('HSET', key, unpack(ARGV, at, math.min(at + 999, last)))
    end
end

fill(KEYS[2], 4, 3 + count)
redis.call('HSET', KEYS[2], 'published_ms', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[2], ttl)
fill(KEYS[3], 4 + count, #ARGV)
redis.call('PEXPIRE', KEYS[3], ttl)
redis.call('ZADD', KEYS[1], now + ttl, id)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], 10 * ttl)
