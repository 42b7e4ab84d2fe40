-- A worker's first act: take the job, or learn that there is nothing to do.
-- KEYS 1 job  2 lease of its key ("" kind: the job itself, an action holds no key)  3.. tags of the key
-- ARGV 1 job id  2 worker  3 lease ms  4 tag ttl ms  5 job channel  6 "1": a computation
--      7 crashes after which a job is dead  8 problem of a dead job  9.. a fresh version for each tag
-- Returns {what, fence, tag version...}.  what: claimed, gone, over, duplicate, superseded, dead.
-- The tag versions are captured here, before the function reads anything.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local was = redis.call('HMGET', KEYS[1], 'status', 'lease_until', 'crashes')
local status = was[1]
if not status then return {'gone'} end
if status ~= 'queued' and status ~= 'retrying' and status ~= 'running' then return {'over'} end
if status == 'running' then
  if now <= tonumber(was[2]) then return {'duplicate'} end
  local crashes = redis.call('HINCRBY', KEYS[1], 'crashes', 1)
  if crashes >= tonumber(ARGV[7]) then
    redis.call('HSET', KEYS[1], 'status', 'dead', 'finished_at', now, 'error', ARGV[8])
    redis.call('HDEL', KEYS[1], 'message')
    redis.call('HINCRBY', KEYS[1], 'version', 1)
    if ARGV[6] == '1' and redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('UNLINK', KEYS[2]) end
    redis.call('PUBLISH', ARGV[5], 'C')
    return {'dead'}
  end
end
if ARGV[6] == '1' then
  local holder = redis.call('GET', KEYS[2])
  if holder and holder ~= ARGV[1] then
    redis.call('HSET', KEYS[1], 'status', 'cancelled', 'finished_at', now)
    redis.call('HDEL', KEYS[1], 'message')
    redis.call('HINCRBY', KEYS[1], 'version', 1)
    redis.call('PUBLISH', ARGV[5], 'C')
    return {'superseded'}
  end
  local life = redis.call('PTTL', KEYS[1])
  redis.call('SET', KEYS[2], ARGV[1], 'PX', life)
end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'started_at', now, 'lease_until', now + tonumber(ARGV[3]),
  'worker', ARGV[2])
redis.call('HDEL', KEYS[1], 'progress')
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('PUBLISH', ARGV[5], 'C')
local out = {'claimed', fence}
for i = 3, #KEYS do
  local version = redis.call('GET', KEYS[i])
  if version then redis.call('PEXPIRE', KEYS[i], ARGV[4])
  else version = ARGV[6 + i]; redis.call('SET', KEYS[i], version, 'PX', ARGV[4]) end
  out[#out + 1] = version
end
return out
