-- Join the live computation of a key, or create one, put it on its queue and ring the doorbell.
-- KEYS 1 entry  2 version  3 failure  4 lease  5 new job  6 sign of life of the queue's workers
--      7 new keys of the principal this minute  8 index of live jobs  9 run of the server (an epoch of another run is
--      over)  10 living workers  11 list of the broker to ring (none: the broker is elsewhere and the caller rings)
-- ARGV 1 prefix of the queues  2 nonce of the entry the caller saw ("" none)  3 job id  4 epoch if there is none
--      5 version ttl ms  6 queue limit  7 "1": compute although a value or a failure is there  8 prefix of job keys
--      9 ms after which somebody looks after it  10 new keys a minute (0: any number)  11 bytes of new values a minute
--      12 message  13 queue  14 priority  15 lane  16 jobs of a lane that may wait (0: any number)  17 "1": to be given
--      up when nobody wants it any more  18 index of those  19 ms after which it has expired, if it has not begun (0: never)
--      20 index of all jobs by id  21 prefix of job channels  22.. fields of the new job, alternating with values
-- Returns {what, job id, epoch, offset, workers alive, ring, wait}.  what: hit (read again), failed (read again), joined,
--      created, full, crowded (the lane has too many waiting), quota.  ring 1: the caller must ring for this job; 2: it
--      must see after it, because its worker went silent.  wait: ms after which it is worth asking again (full, crowded).
local Q = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local forced = ARGV[7] == '1'
local alive = redis.call('ZCOUNT', KEYS[6], now, '+inf')
local native = #KEYS > 10

-- A key that is of another type than it should be is foreign, and goes.
local run = redis.call('GET', KEYS[9]) or ''
local version = redis.pcall('HMGET', KEYS[2], 'e', 'o', 'r')
if version.err or version[3] ~= run then redis.call('UNLINK', KEYS[2]) version = {} end
local new = not version[1]
if new then version = {ARGV[4], '0'} end
local function refuse(what, wait) tally(what) return {what, '', version[1], version[2], alive, 0, wait or 0} end
local function answer(what, job, ring)
  if new then redis.call('HSET', KEYS[2], 'e', ARGV[4], 'o', '0', 'r', run) end
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  return {what, job, version[1], version[2], alive, ring or 0, 0}
end
local function wanted(job) redis.call('HSET', ARGV[8] .. job, 'wanted_at', text(now), 'by:' .. ARGV[15], text(now)) end

local function join(job, ring)
  tally('joined')
  return answer('joined', job, ring)
end

if redis.call('EXISTS', KEYS[5]) == 1 then return join(ARGV[3]) end
if not forced then
  local nonce = redis.pcall('GETRANGE', KEYS[1], 0, 7)
  if type(nonce) ~= 'string' then redis.call('UNLINK', KEYS[1]) nonce = '' end
  if nonce ~= '' and nonce ~= ARGV[2] then return answer('hit', '') end
  if redis.pcall('GETRANGE', KEYS[3], 0, 0) == '{' then return answer('failed', '') end
end

local holder = redis.pcall('GET', KEYS[4])
if type(holder) == 'table' then redis.call('UNLINK', KEYS[4]) holder = false end
if holder then
  local was = redis.call('HMGET', ARGV[8] .. holder, 'status', 'worker')
  if was[1] == 'queued' or was[1] == 'retrying' then
    wanted(holder)
    -- Whoever is more urgent takes it along.
    local queue, kind, priority, lane = about(holder)
    if was[1] == 'queued' and queue == ARGV[13] and tonumber(ARGV[14]) > priority and drop(holder) then
      put(holder, queue, kind, tonumber(ARGV[14]), lane)
      redis.call('HSET', ARGV[8] .. holder, 'priority', ARGV[14])
      redis.call('HINCRBY', ARGV[8] .. holder, 'version', 1)
      redis.call('PUBLISH', ARGV[21] .. holder, 'C')
    end
    return join(holder)
  elseif was[1] == 'running' then
    wanted(holder)
    local until_ = redis.call('ZSCORE', KEYS[10], was[2])
    return join(holder, until_ and tonumber(until_) < now and 2 or 0)
  end
end

local waiting = length(ARGV[13])
if waiting >= tonumber(ARGV[6]) then
  local speed = rate(ARGV[13])
  return refuse('full', speed > 0 and waiting * 1000 / speed or 0)
end
if ARGV[16] ~= '0' and tonumber(redis.call('HGET', Q .. 'lanes', ARGV[15]) or 0) >= tonumber(ARGV[16]) then
  local speed = rate(ARGV[13])
  return refuse('crowded', speed > 0 and 1000 / speed or 0)
end
local counted = new and ARGV[10] ~= '0'
if counted then
  local brought = redis.call('HMGET', KEYS[7], 'n', 'b')
  if tonumber(brought[1] or 0) >= tonumber(ARGV[10]) or tonumber(brought[2] or 0) >= tonumber(ARGV[11]) then
    return refuse('quota')
  end
  redis.call('HINCRBY', KEYS[7], 'n', 1)
  if not brought[1] then redis.call('PEXPIRE', KEYS[7], 60000) end
end
-- No TTL: a job that was accepted is not evicted for a value's sake.  Whatever ends it gives its record one.
redis.call('HSET', KEYS[5], 'status', 'queued', 'version', 1, 'fence', 0, 'failures', 0, 'crashes', 0, 'reruns', 0,
  'created_at', text(now), 'new', counted and KEYS[7] or '', 'queue', ARGV[13], 'priority', ARGV[14], 'lane', ARGV[15],
  'expires_at', ARGV[19] ~= '0' and text(now + tonumber(ARGV[19])) or '', unpack(ARGV, 22))
wanted(ARGV[3])
redis.call('SET', KEYS[4], ARGV[3])
redis.call('ZADD', KEYS[8], text(now + tonumber(ARGV[9])), ARGV[3])
redis.call('ZADD', ARGV[20], 0, ARGV[3])
redis.call('PEXPIRE', ARGV[20], 8 * 86400000)
if ARGV[17] == '1' then redis.call('SADD', ARGV[18], ARGV[3]) end
tally('created')
put(ARGV[3], ARGV[13], 'computation', tonumber(ARGV[14]), ARGV[15])
if native then redis.call('LPUSH', KEYS[11], ARGV[12]) end
return answer('created', ARGV[3], native and 0 or 1)
