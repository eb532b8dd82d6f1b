-- KEYS: who is on the board. ARGV: what the keys of queues and those of runs begin with; all have one hash tag.
-- Answers with the time in milliseconds, then of each coordinator its id, its queues and its runs.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {string.format('%.0f', now)}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
    local queues = redis.call('HGETALL', ARGV[1] .. id)
    if #queues > 0 then
        answer[#answer + 1] = id
        answer[#answer + 1] = queues
        answer[#answer + 1] = redis.call('HGETALL', ARGV[2] .. id)
    end
end
return answer
