-- An attempt ended without a value to store: it failed, shall be tried again, was cancelled or interrupted, or was an action.
-- KEYS 1 job  2 index of live jobs; and of a computation the keys its record names: lease, failure
-- ARGV 1 fence  2 job id  3 new status: succeeded, failed, cancelled, retrying  4 problem JSON ("" none: retrying then
--      means it was interrupted by no fault of its own)  5 job channel  6 ttl of a finished job, ms
--      7 when it is due again, ms from now (retrying)  8 message to ring with (retrying)
--      9 ms after which a waiting job is rung again
-- Returns {done, ring}: done 0: this attempt has lost its job and may write nothing; ring 1: the caller must ring.
local was = redis.call('HMGET', KEYS[1], 'status', 'fence', 'list', 'lease', 'failure', 'channel', 'error_ttl')
if was[1] ~= 'running' or was[2] ~= ARGV[1] then return {0, 0} end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ring = 0
redis.call('HINCRBY', KEYS[1], 'version', 1)
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[4]) end
if ARGV[3] == 'retrying' then
  if ARGV[4] == '' then redis.call('HINCRBY', KEYS[1], 'reruns', 1) end
  redis.call('HSET', KEYS[1], 'status', ARGV[4] == '' and 'queued' or 'retrying', 'rung_at', now + tonumber(ARGV[7]),
    'message', ARGV[8])
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[7]) + tonumber(ARGV[9]), ARGV[2])
  if was[3] ~= '' then redis.call('LPUSH', was[3], ARGV[8]) else ring = 1 end
else
  redis.call('HSET', KEYS[1], 'status', ARGV[3], 'finished_at', now)
  redis.call('HDEL', KEYS[1], 'message')
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
  redis.call('ZREM', KEYS[2], ARGV[2])
  if was[4] and redis.call('GET', was[4]) == ARGV[2] then
    redis.call('UNLINK', was[4])
    if ARGV[3] == 'failed' then redis.call('SET', was[5], ARGV[4], 'PX', was[7]) end
    if ARGV[4] ~= '' then redis.call('PUBLISH', was[6], 'E' .. ARGV[4]) end
  end
end
redis.call('PUBLISH', ARGV[5], 'C')
return {1, ring}
