-- KEYS: who is on the board, the coordinator's queues, its runs. ARGV: its id.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3])
