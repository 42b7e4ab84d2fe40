-- Somebody looks at a computation: it is wanted, as long as there is one.
-- KEYS 1 job
if redis.call('HEXISTS', KEYS[1], 'status') == 0 then return 0 end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'wanted_at', clock[1] * 1000 + math.floor(clock[2] / 1000))
return 1
