-- Ask for the end of a computation: at once while it waits; while it runs its worker is told (`cancels`).
-- KEYS 1 job  2 index of live jobs  3 jobs whose end was asked for  4 subscribers' channel of its value, for who waits
-- ARGV 1 job id  2 job channel  3 ttl of a finished job, ms  4 prefix of the queues  5 who asks: lane, "" nobody in
--      particular (it is ended whoever wants it)  6 ttl of `cancels`, ms
-- Returns {status it had ("" there is no such job), 1 when it is kept because others want it}.
local Q = ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local was = redis.call('HMGET', KEYS[1], 'status', 'lease')
local status = was[1]
if not status then return {'', 0} end
if status ~= 'queued' and status ~= 'retrying' and status ~= 'running' then return {status, 0} end
if ARGV[5] ~= '' then
  -- One of several who asked does not end it for the others; of the public nobody knows whether it has gone, save when
  -- nobody at all is subscribed.
  local all, alone, public = redis.call('HGETALL', KEYS[1]), true, false
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 3) == 'by:' then
      local who = string.sub(all[i], 4)
      if who == '' then public = true elseif who ~= ARGV[5] then alone = false end
    end
  end
  if public and redis.call('PUBSUB', 'NUMSUB', KEYS[4])[2] > 0 then alone = false end
  if not alone then
    redis.call('HDEL', KEYS[1], 'by:' .. ARGV[5])
    return {status, 1}
  end
end
if status == 'running' then
  -- Asked for twice it still counts from the first time: else one who asks again and again would put the end off.
  local first = redis.call('HSETNX', KEYS[1], 'cancel', now) == 1
  redis.call('HSETNX', KEYS[3], ARGV[1], now)
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
  if not first then return {status, 0} end
else
  drop(ARGV[1])
  redis.call('HSET', KEYS[1], 'status', 'cancelled', 'finished_at', now)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('ZREM', KEYS[2], ARGV[1])
  if was[2] and redis.call('GET', was[2]) == ARGV[1] then redis.call('UNLINK', was[2]) end
end
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('PUBLISH', ARGV[2], 'C')
return {status, 0}
