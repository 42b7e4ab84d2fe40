-- An attempt ended without a value to store: it failed, shall be tried again, was cancelled, or was an action.
-- KEYS 1 job  2 lease of its key (actions: the job)  3 failure of its key (actions: the job)  4 index of live jobs
-- ARGV 1 fence  2 job id  3 new status: succeeded, failed, cancelled, retrying  4 problem JSON ("" none)
--      5 failure ttl ms (0: not remembered)  6 job channel  7 value channel ("" none)  8 ttl of a finished job, ms
--      9 when it is due again, ms from now (retrying)  10 message to ring with (retrying)  11 "1": a computation
--      12 ms after which a waiting job is rung again
-- Returns {done, ring}: done 0: this attempt has lost its job and may write nothing; ring 1: the caller must ring.
local was = redis.call('HMGET', KEYS[1], 'status', 'fence', 'list')
if was[1] ~= 'running' or was[2] ~= ARGV[1] then return {0, 0} end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ring = 0
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[4]) end
redis.call('HSET', KEYS[1], 'status', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'version', 1)
if ARGV[3] == 'retrying' then
  redis.call('HSET', KEYS[1], 'rung_at', now + tonumber(ARGV[9]), 'message', ARGV[10])
  redis.call('ZADD', KEYS[4], now + tonumber(ARGV[9]) + tonumber(ARGV[12]), ARGV[2])
  if was[3] ~= '' then redis.call('LPUSH', was[3], ARGV[10]) else ring = 1 end
else
  redis.call('HSET', KEYS[1], 'finished_at', now)
  redis.call('HDEL', KEYS[1], 'message')
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
  redis.call('ZREM', KEYS[4], ARGV[2])
  if ARGV[11] == '1' and redis.call('GET', KEYS[2]) == ARGV[2] then
    redis.call('UNLINK', KEYS[2])
    if tonumber(ARGV[5]) > 0 then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5]) end
    if ARGV[7] ~= '' and ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[7], 'E' .. ARGV[4]) end
  end
end
redis.call('PUBLISH', ARGV[6], 'C')
return {1, ring}
