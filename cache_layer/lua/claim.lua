-- A worker's first act for a computation it has taken: claim it, or learn that there is nothing to do.
-- KEYS 1 job  2 index of live jobs  3 lease of its key  4 what the worker holds  5.. tags of the key
-- ARGV 1 job id  2 worker  3 what it holds, as JSON (fence and deadline are written here)  4 ms it may run  5 tag ttl ms
--      6 job channel  7 ttl of a finished job, ms  8 ms after which somebody looks after it  9 "1": not to be run here, only
--      to be ended  10 prefix of the queues  11 token of this claim: said twice it is one  12 ttl of what a worker holds, ms
--      13.. a fresh version for each tag
-- Returns {what, fence, queue that may go on, tag version...}.  what: claimed, gone, over, duplicate (another attempt has
--      it), superseded (the key belongs to another job), expired.
-- The tag versions are captured here, before the function reads anything.
local Q = ARGV[10]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local was = redis.call('HMGET', KEYS[1], 'status', 'expires_at', 'worker', 'fence', 'pid', 'deadline', 'claim')
local status = was[1]
local held = cjson.decode(ARGV[3])
local function hold(fence, pid, deadline)
  held.fence, held.pid, held.deadline = tonumber(fence), tonumber(pid), tonumber(deadline)
  redis.call('HSET', KEYS[4], ARGV[1], cjson.encode(held))
  redis.call('PEXPIRE', KEYS[4], ARGV[12])
end
local function leave(what)
  redis.call('HDEL', KEYS[4], ARGV[1])
  drop(ARGV[1])
  return {what, 0, release(ARGV[1], held.lane) or ''}
end
local function claimed(fence)
  local out = {'claimed', fence, ''}
  for i = 5, #KEYS do
    local fresh = ARGV[8 + i]
    local version = redis.pcall('GET', KEYS[i])
    if type(version) == 'string' and #version == #fresh then
      -- Every change of its life is told to the processes that hold values with this tag: seldom, then.
      if redis.call('PTTL', KEYS[i]) < ARGV[5] / 2 then redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
    else version = fresh; redis.call('SET', KEYS[i], version, 'PX', ARGV[5]) end
    out[#out + 1] = version
  end
  return out
end
if not status then return leave('gone') end
if status == 'running' then
  if was[3] == ARGV[2] then hold(was[4], was[5], was[6]) else redis.call('HDEL', KEYS[4], ARGV[1]) end
  if was[7] == ARGV[11] then return claimed(tonumber(was[4])) end  -- the answer was lost
  drop(ARGV[1])
  return {'duplicate', 0, ''}
end
if status ~= 'queued' and status ~= 'retrying' then return leave('over') end
local holder = redis.call('GET', KEYS[3])
local ending = nil
if was[2] and was[2] ~= '' and now > tonumber(was[2]) then ending = 'expired'
elseif ARGV[9] ~= '1' and holder and holder ~= ARGV[1] then ending = 'superseded' end
if ending then
  redis.call('HSET', KEYS[1], 'status', ending == 'expired' and 'expired' or 'cancelled', 'finished_at', now)
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
  redis.call('HINCRBY', KEYS[1], 'version', 1)
  redis.call('ZREM', KEYS[2], ARGV[1])
  if holder == ARGV[1] then redis.call('UNLINK', KEYS[3]) end
  redis.call('PUBLISH', ARGV[6], 'C')
  return leave(ending)
end
if ARGV[9] ~= '1' then redis.call('SET', KEYS[3], ARGV[1]) end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'started_at', now, 'worker', ARGV[2], 'pid', held.pid,
  'deadline', now + tonumber(ARGV[4]), 'claim', ARGV[11])
drop(ARGV[1])  -- it may have been put on its queue again, because this took so long
redis.call('HDEL', KEYS[1], 'progress', 'outdated')
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[8]), ARGV[1])
hold(fence, held.pid, now + tonumber(ARGV[4]))
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('PUBLISH', ARGV[6], 'C')
return claimed(fence)
