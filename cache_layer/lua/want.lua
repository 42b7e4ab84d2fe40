-- Somebody wants a computation, as long as there is one.
-- KEYS 1 job
-- ARGV 1 lane of who wants it
if redis.call('HEXISTS', KEYS[1], 'status') == 0 then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'wanted_at', now, 'by:' .. ARGV[1], now)
return 1
