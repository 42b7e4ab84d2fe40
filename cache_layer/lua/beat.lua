-- A running attempt is alive, and perhaps has something to tell.
-- KEYS 1 job  2 index of live jobs
-- ARGV 1 fence  2 lease ms  3 progress JSON ("" only a beat)  4 job channel  5 value channel ("" none)  6 signal JSON
--      7 job id
-- Returns 0: this attempt has lost its job, stop; 1: go on; 2: somebody asked to cancel.
local was = redis.call('HMGET', KEYS[1], 'status', 'fence', 'cancel')
if was[1] ~= 'running' or was[2] ~= ARGV[1] then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'lease_until', now + tonumber(ARGV[2]))
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[7])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'progress', ARGV[3])
  redis.call('HINCRBY', KEYS[1], 'version', 1)
  redis.call('PUBLISH', ARGV[4], 'C')
  if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[5], 'P' .. ARGV[6]) end
end
return was[3] and 2 or 1
