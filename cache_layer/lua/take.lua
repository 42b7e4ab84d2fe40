-- What a worker does when it is rung for: take the best job that waits on the queue, of whichever kind.
-- KEYS 1 what this worker holds
-- ARGV 1 prefix of the queues  2 queue  3 process that will run it  4 jobs of a lane that may run (0: any number)
--      5 ms after which it has ended for certain  6 ttl of what a worker holds, ms  7 prefix of job keys
-- Returns {id, kind, priority, lane, still waiting}, or {} for nothing.  What is taken is held from now on, so that it
-- is found again when its process or its worker dies before it is claimed.
local Q = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
redis.call('HSET', Q .. 's:' .. ARGV[2], 'heard', text(now))
redis.call('PEXPIRE', Q .. 's:' .. ARGV[2], STATS_TTL)
local id, kind, priority, lane = take(ARGV[2], tonumber(ARGV[4]), now + tonumber(ARGV[5]))
if not id then return {} end
taken(ARGV[2])
redis.call('HSET', KEYS[1], id, cjson.encode({kind = kind, fence = 0, pid = tonumber(ARGV[3]), queue = ARGV[2],
  priority = priority, lane = lane, deadline = 0}))
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if kind == 'computation' and redis.call('EXISTS', ARGV[7] .. id) == 1 then
  redis.call('HSET', ARGV[7] .. id, 'taken_at', now)
end
return {id, kind, priority, lane, length(ARGV[2])}
