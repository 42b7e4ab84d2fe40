-- Join the live computation of a key, or create one and ring the doorbell.
-- KEYS 1 entry  2 version  3 failure  4 lease  5 new job  6 sign of life of the queue's workers
--      7 new keys of the principal this minute  8 index of live jobs  9.. broker lists of the queue, the one to ring
--      first (none: the broker is elsewhere and the caller rings)
-- ARGV 1 nonce of the entry the caller saw ("" none)  2 job id  3 epoch if there is none  4 version ttl ms
--      5 queue limit  6 "1": compute although a value or a failure is there  7 prefix of job keys
--      8 ms after which a waiting job is rung again  9 new keys a minute (0: any number)  10 message
--      11.. fields of the new job, alternating with values
-- Returns {what, job id, epoch, offset, workers alive, ring}.  what: hit (read again), failed (read again), joined,
--      created, full, quota.  ring 1: the caller must ring for this job; 2: it must see after it (wake.lua), because its
--      worker went silent or its message was lost.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local forced = ARGV[6] == '1'
local alive = redis.call('ZCOUNT', KEYS[6], now, '+inf')
local native = #KEYS > 8

local version = redis.call('HMGET', KEYS[2], 'e', 'o')
local new = not version[1]
if new then version = {ARGV[3], '0'} end
local function refuse(what) return {what, '', version[1], version[2], alive, 0} end
local function answer(what, job, ring)
  if new then redis.call('HSET', KEYS[2], 'e', ARGV[3], 'o', '0') end
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  return {what, job, version[1], version[2], alive, ring or 0}
end

if redis.call('EXISTS', KEYS[5]) == 1 then return answer('joined', ARGV[2]) end
if not forced then
  local nonce = redis.call('GETRANGE', KEYS[1], 0, 7)
  if nonce ~= '' and nonce ~= ARGV[1] then return answer('hit', '') end
  if redis.call('EXISTS', KEYS[3]) == 1 then return answer('failed', '') end
end

local holder = redis.call('GET', KEYS[4])
if holder then
  local was = redis.call('HMGET', ARGV[7] .. holder, 'status', 'lease_until', 'rung_at')
  if was[1] == 'queued' or was[1] == 'retrying' then
    return answer('joined', holder, now - tonumber(was[3]) > tonumber(ARGV[8]) and 2 or 0)
  elseif was[1] == 'running' then
    return answer('joined', holder, now > tonumber(was[2]) and 2 or 0)
  end
end

if native then
  local waiting = 0
  for i = 9, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
  if waiting >= tonumber(ARGV[5]) then return refuse('full') end
end
if new and ARGV[9] ~= '0' then
  local asked = redis.call('INCR', KEYS[7])
  if asked == 1 then redis.call('PEXPIRE', KEYS[7], 60000) end
  if asked > tonumber(ARGV[9]) then return refuse('quota') end
end
local list = native and KEYS[9] or ''
-- No TTL: a job that was accepted is not evicted for a value's sake.  Whatever ends it gives its record one.
redis.call('HSET', KEYS[5], 'status', 'queued', 'version', 1, 'fence', 0, 'crashes', 0, 'reruns', 0, 'rings', 0,
  'created_at', now, 'rung_at', now, 'list', list, 'message', ARGV[10], unpack(ARGV, 11))
redis.call('SET', KEYS[4], ARGV[2])
redis.call('ZADD', KEYS[8], now + tonumber(ARGV[8]), ARGV[2])
if native then redis.call('LPUSH', list, ARGV[10]) end
return answer('created', ARGV[2], native and 0 or 1)
