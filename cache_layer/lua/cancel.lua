-- Ask for the end of a job: at once while it waits, at its next sign of life while it runs.
-- KEYS 1 job  2 index of live jobs
-- ARGV 1 job id  2 job channel  3 ttl of a finished job, ms
-- Returns the status it had, "" when there is no such job.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local was = redis.call('HMGET', KEYS[1], 'status', 'lease')
local status = was[1]
if not status then return '' end
if status == 'queued' or status == 'retrying' then
  redis.call('HSET', KEYS[1], 'status', 'cancelled', 'finished_at', now)
  redis.call('HDEL', KEYS[1], 'message')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('ZREM', KEYS[2], ARGV[1])
  if was[2] and was[2] ~= '' and redis.call('GET', was[2]) == ARGV[1] then redis.call('UNLINK', was[2]) end
elseif status == 'running' then
  redis.call('HSET', KEYS[1], 'cancel', '1')
else
  return status
end
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('PUBLISH', ARGV[2], 'C')
return status
