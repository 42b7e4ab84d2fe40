-- Create the job of an action and ring the doorbell; the same id twice is one job.
-- KEYS 1 job  2 sign of life of the queue's workers  3 index of live jobs  4.. broker lists of the queue, the one to ring
--      first
-- ARGV 1 queue limit  2 message  3 job id  4 ms after which a waiting job is rung again
--      5.. fields of the job, alternating with values
-- Returns {what, workers alive, ring}.  what: joined (it exists), created, full.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local alive = redis.call('ZCOUNT', KEYS[2], now, '+inf')
local native = #KEYS > 3
if redis.call('EXISTS', KEYS[1]) == 1 then return {'joined', alive, 0} end
if native then
  local waiting = 0
  for i = 4, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
  if waiting >= tonumber(ARGV[1]) then return {'full', alive, 0} end
end
local list = native and KEYS[4] or ''
-- No TTL: see submit.lua.
redis.call('HSET', KEYS[1], 'status', 'queued', 'version', 1, 'fence', 0, 'crashes', 0, 'reruns', 0, 'rings', 0,
  'created_at', now, 'rung_at', now, 'list', list, 'message', ARGV[2], unpack(ARGV, 5))
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[4]), ARGV[3])
if native then redis.call('LPUSH', list, ARGV[2]) end
return {'created', alive, native and 0 or 1}
