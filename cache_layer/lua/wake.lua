-- See after a live job: ring for one that waits too long, take one from a worker that went silent, end one that kills
-- its workers.  Anybody may do this at any time.
-- KEYS 1 job  2 index of live jobs  3.. broker lists of its queue (none: the broker is elsewhere)
-- ARGV 1 job id  2 ms after which a waiting job is rung again  3 crashes after which a job is dead  4 problem of a dead job
--      5 job channel  6 ttl of a finished job, ms
-- Returns {what, ring}.  what: gone, over, well, rung, requeued, dead.  ring 1: the caller must ring.
-- While other messages wait in the queue, this job's own may be among them: then it is rung for after twice the time at
-- each turn, so that a long queue is not filled with doubles and a lost message is still not lost for ever.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local was = redis.call('HMGET', KEYS[1], 'status', 'lease_until', 'rung_at', 'crashes', 'list', 'message', 'lease',
  'failure', 'channel', 'error_ttl', 'rings')
local status = was[1]
local function out(what, ring) return {what, ring or 0} end
local function ring()
  redis.call('HSET', KEYS[1], 'rung_at', now)
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
  if was[5] == '' then return 1 end
  redis.call('LPUSH', was[5], was[6])
  return 0
end
if not status then redis.call('ZREM', KEYS[2], ARGV[1]) return out('gone') end
if status == 'queued' or status == 'retrying' then
  local waiting = 0
  for i = 3, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
  local patience = tonumber(ARGV[2])
  if waiting > 0 then patience = patience * 2 ^ (1 + math.min(10, tonumber(was[11] or 0))) end
  if now - tonumber(was[3]) <= patience then
    redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
    return out('well')
  end
  redis.call('HINCRBY', KEYS[1], 'rings', 1)
  return out('rung', ring())
end
if status ~= 'running' then redis.call('ZREM', KEYS[2], ARGV[1]) return out('over') end
if now <= tonumber(was[2]) then return out('well') end
local crashes = tonumber(was[4]) + 1
redis.call('HSET', KEYS[1], 'crashes', crashes)
redis.call('HINCRBY', KEYS[1], 'version', 1)
if crashes < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'status', 'queued')
  local must = ring()
  redis.call('PUBLISH', ARGV[5], 'C')
  return out('requeued', must)
end
redis.call('HSET', KEYS[1], 'status', 'dead', 'finished_at', now, 'error', ARGV[4])
redis.call('HDEL', KEYS[1], 'message')
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('ZREM', KEYS[2], ARGV[1])
if was[7] then
  if redis.call('GET', was[7]) == ARGV[1] then redis.call('UNLINK', was[7]) end
  redis.call('SET', was[8], ARGV[4], 'PX', was[10])
  redis.call('PUBLISH', was[9], 'E' .. ARGV[4])
end
redis.call('PUBLISH', ARGV[5], 'C')
return out('dead')
