-- An attempt at a computation ended without a value: it failed, shall be tried again, was cancelled or interrupted, or its
-- worker died.
-- KEYS 1 job  2 index of live jobs  3 what its worker holds
-- ARGV 1 fence  2 job id  3 what came of it: failed, retrying, cancelled, interrupted, died, dead  4 problem JSON ("" none)
--      5 job channel  6 ttl of a finished job, ms  7 ms after which it is due again (retrying, interrupted, died)
--      8 prefix of the queues  9 ms after which somebody looks after a waiting job  10 attempts kept in the history
--      11 crashes after which a job is dead  12 problem of a dead job  13 ttl of a dead one, ms
-- Returns {what, ring, queue that may go on}.  what: "" this attempt has lost its job and may write nothing; else the new
--      status: queued, retrying, failed, cancelled, dead.  ring 1: it waits on its queue, the caller must ring.
local Q = ARGV[8]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local was = redis.call('HMGET', KEYS[1], 'status', 'fence', 'lease', 'failure', 'channel', 'error_ttl', 'queue', 'priority',
  'lane', 'cancel')
if was[1] ~= 'running' or was[2] ~= ARGV[1] then return {'', 0, ''} end
local what, problem, ring = ARGV[3], ARGV[4], 0
if what == 'dead' then problem = ARGV[12]
elseif what == 'died' then
  if redis.call('HINCRBY', KEYS[1], 'crashes', 1) >= tonumber(ARGV[11]) then what, problem = 'dead', ARGV[12] end
elseif what == 'retrying' then redis.call('HINCRBY', KEYS[1], 'failures', 1)
elseif what == 'interrupted' then redis.call('HINCRBY', KEYS[1], 'reruns', 1) end
-- Somebody has asked for its end, and it has not heard of it: it has no other attempt.
if was[10] and (what == 'retrying' or what == 'interrupted' or what == 'died') then what = 'cancelled' end
tally(what)
remember(KEYS[1], ARGV[3] == 'retrying' and 'failed' or ARGV[3], problem ~= '' and cjson.decode(problem).detail,
  tonumber(ARGV[10]))
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('HDEL', Q .. 'cancels', ARGV[2])
local going_on = release(ARGV[2], was[9] or '') or ''
if problem ~= '' then redis.call('HSET', KEYS[1], 'error', problem) end
if what == 'retrying' or what == 'interrupted' or what == 'died' then
  local due, status = tonumber(ARGV[7]), what == 'retrying' and 'retrying' or 'queued'
  redis.call('HSET', KEYS[1], 'status', status)
  redis.call('ZADD', KEYS[2], now + due + tonumber(ARGV[9]), ARGV[2])
  if due > 0 then put_later(ARGV[2], was[7], 'computation', tonumber(was[8]), was[9] or '', now + due)
  else put(ARGV[2], was[7], 'computation', tonumber(was[8]), was[9] or '', true) ring = 1 end
  what = status
else
  redis.call('HSET', KEYS[1], 'status', what, 'finished_at', now)
  redis.call('PEXPIRE', KEYS[1], what == 'dead' and ARGV[13] or ARGV[6])
  redis.call('ZREM', KEYS[2], ARGV[2])
  if was[3] and redis.call('GET', was[3]) == ARGV[2] then
    redis.call('UNLINK', was[3])
    if what ~= 'cancelled' then redis.call('SET', was[4], problem, 'PX', was[6]) end
    if problem ~= '' then redis.call('PUBLISH', was[5], 'E' .. problem) end
  end
end
redis.call('PUBLISH', ARGV[5], 'C')
return {what, ring, going_on}
