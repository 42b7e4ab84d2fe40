-- A worker's first act: take the job, or learn that there is nothing to do.
-- KEYS 1 job  2 index of live jobs  3 lease of its key (an action holds none: the job again)  4.. tags of the key
-- ARGV 1 job id  2 worker  3 lease ms  4 tag ttl ms  5 job channel  6 "1": a computation
--      7 ttl of a finished job, ms  8.. a fresh version for each tag
-- Returns {what, fence, tag version...}.  what: claimed, gone, over, duplicate, superseded, silent: another attempt has
--      it and shows no life, see after it (wake.lua).
-- The tag versions are captured here, before the function reads anything.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local was = redis.call('HMGET', KEYS[1], 'status', 'lease_until')
local status = was[1]
if not status then return {'gone'} end
if status ~= 'queued' and status ~= 'retrying' and status ~= 'running' then return {'over'} end
if status == 'running' then return {now <= tonumber(was[2]) and 'duplicate' or 'silent'} end
if ARGV[6] == '1' then
  local holder = redis.call('GET', KEYS[3])
  if holder and holder ~= ARGV[1] then
    redis.call('HSET', KEYS[1], 'status', 'cancelled', 'finished_at', now)
    redis.call('HDEL', KEYS[1], 'message')
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
    redis.call('HINCRBY', KEYS[1], 'version', 1)
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('PUBLISH', ARGV[5], 'C')
    return {'superseded'}
  end
  redis.call('SET', KEYS[3], ARGV[1])
end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'started_at', now, 'lease_until', now + tonumber(ARGV[3]),
  'worker', ARGV[2])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
redis.call('HDEL', KEYS[1], 'progress', 'outdated')
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('PUBLISH', ARGV[5], 'C')
local out = {'claimed', fence}
for i = 4, #KEYS do
  local version = redis.pcall('GET', KEYS[i])
  if type(version) == 'string' and #version == #ARGV[4 + i] then
    -- Every change of its life is told to the processes that hold values with this tag: seldom, then.
    if redis.call('PTTL', KEYS[i]) < ARGV[4] / 2 then redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
  else version = ARGV[4 + i]; redis.call('SET', KEYS[i], version, 'PX', ARGV[4]) end
  out[#out + 1] = version
end
return out
