-- Join the live computation of a key, or create one and ring the doorbell.
-- KEYS 1 entry  2 version  3 failure  4 lease  5 new job  6 sign of life of the queue's workers
--      7 new keys of the principal this minute  8 index of live jobs  9 run of the server (an epoch of another run is
--      over)  10.. broker lists of the queue, the one to ring first (none: the broker is elsewhere and the caller rings)
-- ARGV 1 nonce of the entry the caller saw ("" none)  2 job id  3 epoch if there is none  4 version ttl ms
--      5 queue limit  6 "1": compute although a value or a failure is there  7 prefix of job keys
--      8 ms after which a waiting job is rung again  9 new keys a minute (0: any number)
--      10 bytes of new values a minute  11 message  12.. fields of the new job, alternating with values
-- Returns {what, job id, epoch, offset, workers alive, ring}.  what: hit (read again), failed (read again), joined,
--      created, full, quota.  ring 1: the caller must ring for this job; 2: it must see after it (wake.lua), because its
--      worker went silent or its message was lost.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local forced = ARGV[6] == '1'
local alive = redis.call('ZCOUNT', KEYS[6], now, '+inf')
local native = #KEYS > 9

-- A key that is of another type than it should be is foreign, and goes.
local run = redis.call('GET', KEYS[9]) or ''
local version = redis.pcall('HMGET', KEYS[2], 'e', 'o', 'r')
if version.err or version[3] ~= run then redis.call('UNLINK', KEYS[2]) version = {} end
local new = not version[1]
if new then version = {ARGV[3], '0'} end
local function refuse(what) return {what, '', version[1], version[2], alive, 0} end
local function answer(what, job, ring)
  if new then redis.call('HSET', KEYS[2], 'e', ARGV[3], 'o', '0', 'r', run) end
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  return {what, job, version[1], version[2], alive, ring or 0}
end

if redis.call('EXISTS', KEYS[5]) == 1 then return answer('joined', ARGV[2]) end
if not forced then
  local nonce = redis.pcall('GETRANGE', KEYS[1], 0, 7)
  if type(nonce) ~= 'string' then redis.call('UNLINK', KEYS[1]) nonce = '' end
  if nonce ~= '' and nonce ~= ARGV[1] then return answer('hit', '') end
  if redis.pcall('GETRANGE', KEYS[3], 0, 0) == '{' then return answer('failed', '') end
end

local holder = redis.pcall('GET', KEYS[4])
if type(holder) == 'table' then redis.call('UNLINK', KEYS[4]) holder = false end
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
  for i = 10, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
  if waiting >= tonumber(ARGV[5]) then return refuse('full') end
end
local counted = new and ARGV[9] ~= '0'
if counted then
  local brought = redis.call('HMGET', KEYS[7], 'n', 'b')
  if tonumber(brought[1] or 0) >= tonumber(ARGV[9]) or tonumber(brought[2] or 0) >= tonumber(ARGV[10]) then
    return refuse('quota')
  end
  redis.call('HINCRBY', KEYS[7], 'n', 1)
  if not brought[1] then redis.call('PEXPIRE', KEYS[7], 60000) end
end
local list = native and KEYS[10] or ''
-- No TTL: a job that was accepted is not evicted for a value's sake.  Whatever ends it gives its record one.
redis.call('HSET', KEYS[5], 'status', 'queued', 'version', 1, 'fence', 0, 'crashes', 0, 'reruns', 0, 'rings', 0,
  'created_at', now, 'rung_at', now, 'list', list, 'message', ARGV[11], 'new', counted and KEYS[7] or '', unpack(ARGV, 12))
redis.call('SET', KEYS[4], ARGV[2])
redis.call('ZADD', KEYS[8], now + tonumber(ARGV[8]), ARGV[2])
if native then redis.call('LPUSH', list, ARGV[11]) end
return answer('created', ARGV[2], native and 0 or 1)
