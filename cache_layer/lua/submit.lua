-- Join the live computation of a key, or create one, put it on its queue and ring the doorbell.
-- KEYS 1 sign of life of the queue's workers  2 index of live jobs  3 run of the server (an epoch of another run is
--      over)  4 living workers  5 new keys of the asker this minute  6 new job  7 entry  8 version  9 failure  10 lease
--      11 list of the broker to ring (none: the broker is elsewhere and the caller rings)
-- ARGV 1 channel of the value  2 prefix of the queues  3 prefix of job keys  4 prefix of job channels  5 index of all jobs
--      by id  6 index of those that are given up when nobody wants them any more  7 name  8 queue  9 priority  10 queue
--      limit  11 ms after which somebody looks after it  12 version ttl ms  13 ms after which it has expired, if it has
--      not begun (0: never)  14 ms a failure is remembered
--      15 job id  16 nonce of the entry the caller saw ("" none)  17 epoch if there is none  18 "1": compute although a
--      value or a failure is there  19 message  20 lane  21 jobs of a lane that may wait (0: any number)  22 new keys a
--      minute (0: any number)  23 bytes of new values a minute  24 "1": to be given up when nobody wants it any more
--      25 parameters  26 principal  27 topic
-- Returns {what, job id, epoch, offset, workers alive, ring, wait}.  what: hit (read again), failed (read again), joined,
--      created, full, crowded (the lane has too many waiting), quota.  ring 1: the caller must ring for this job; 2: it
--      must see after it, because its worker went silent.  wait: ms after which it is worth asking again (full, crowded).
local Q = ARGV[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local forced = ARGV[18] == '1'
local alive = redis.call('ZCOUNT', KEYS[1], now, '+inf')
local native = #KEYS > 10

-- A key that is of another type than it should be is foreign, and goes.
local run = redis.call('GET', KEYS[3]) or ''
local version = redis.pcall('HMGET', KEYS[8], 'e', 'o', 'r')
if version.err or version[3] ~= run then redis.call('UNLINK', KEYS[8]) version = {} end
local new = not version[1]
if new then version = {ARGV[17], '0'} end
local function refuse(what, wait) tally(what) return {what, '', version[1], version[2], alive, 0, wait or 0} end
local function answer(what, job, ring)
  if new then redis.call('HSET', KEYS[8], 'e', ARGV[17], 'o', '0', 'r', run) end
  redis.call('PEXPIRE', KEYS[8], ARGV[12])
  return {what, job, version[1], version[2], alive, ring or 0, 0}
end
local function wanted(job) redis.call('HSET', ARGV[3] .. job, 'wanted_at', text(now), 'by:' .. ARGV[20], text(now)) end

local function join(job, ring)
  tally('joined')
  return answer('joined', job, ring)
end

if redis.call('EXISTS', KEYS[6]) == 1 then return join(ARGV[15]) end
if not forced then
  local nonce = redis.pcall('GETRANGE', KEYS[7], 0, 7)
  if type(nonce) ~= 'string' then redis.call('UNLINK', KEYS[7]) nonce = '' end
  if nonce ~= '' and nonce ~= ARGV[16] then return answer('hit', '') end
  if redis.pcall('GETRANGE', KEYS[9], 0, 0) == '{' then return answer('failed', '') end
end

local holder = redis.pcall('GET', KEYS[10])
if type(holder) == 'table' then redis.call('UNLINK', KEYS[10]) holder = false end
if holder then
  local was = redis.call('HMGET', ARGV[3] .. holder, 'status', 'worker')
  if was[1] == 'queued' or was[1] == 'retrying' then
    wanted(holder)
    -- Whoever is more urgent takes it along.
    local queue, kind, priority, lane = about(holder)
    if was[1] == 'queued' and queue == ARGV[8] and tonumber(ARGV[9]) > priority and drop(holder) then
      put(holder, queue, kind, tonumber(ARGV[9]), lane)
      redis.call('HSET', ARGV[3] .. holder, 'priority', ARGV[9])
      redis.call('HINCRBY', ARGV[3] .. holder, 'version', 1)
      redis.call('PUBLISH', ARGV[4] .. holder, 'C')
    end
    return join(holder)
  elseif was[1] == 'running' then
    wanted(holder)
    local until_ = redis.call('ZSCORE', KEYS[4], was[2])
    return join(holder, until_ and tonumber(until_) < now and 2 or 0)
  end
end

local waiting = length(ARGV[8])
if waiting >= tonumber(ARGV[10]) then
  local speed = rate(ARGV[8])
  return refuse('full', speed > 0 and waiting * 1000 / speed or 0)
end
if ARGV[21] ~= '0' and tonumber(redis.call('HGET', Q .. 'lanes', ARGV[20]) or 0) >= tonumber(ARGV[21]) then
  local speed = rate(ARGV[8])
  return refuse('crowded', speed > 0 and 1000 / speed or 0)
end
local counted = new and ARGV[22] ~= '0'
if counted then
  local brought = redis.call('HMGET', KEYS[5], 'n', 'b')
  if tonumber(brought[1] or 0) >= tonumber(ARGV[22]) or tonumber(brought[2] or 0) >= tonumber(ARGV[23]) then
    return refuse('quota')
  end
  redis.call('HINCRBY', KEYS[5], 'n', 1)
  if not brought[1] then redis.call('PEXPIRE', KEYS[5], 60000) end
end
-- No TTL: a job that was accepted is not evicted for a value's sake.  Whatever ends it gives its record one.
redis.call('HSET', KEYS[6], 'status', 'queued', 'version', 1, 'fence', 0, 'failures', 0, 'crashes', 0, 'reruns', 0,
  'created_at', text(now), 'new', counted and KEYS[5] or '', 'queue', ARGV[8], 'priority', ARGV[9], 'lane', ARGV[20],
  'expires_at', ARGV[13] ~= '0' and text(now + tonumber(ARGV[13])) or '', 'id', ARGV[15],
  'kind', 'computation', 'name', ARGV[7], 'params', ARGV[25], 'owner', '', 'principal', ARGV[26], 'topic', ARGV[27],
  'lease', KEYS[10], 'failure', KEYS[9], 'channel', ARGV[1], 'error_ttl', ARGV[14])
wanted(ARGV[15])
redis.call('SET', KEYS[10], ARGV[15])
redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[11])), ARGV[15])
redis.call('ZADD', ARGV[5], 0, ARGV[15])
redis.call('PEXPIRE', ARGV[5], 8 * 86400000)
if ARGV[24] == '1' then redis.call('SADD', ARGV[6], ARGV[15]) end
tally('created')
put(ARGV[15], ARGV[8], 'computation', tonumber(ARGV[9]), ARGV[20])
if native then redis.call('LPUSH', KEYS[11], ARGV[19]) end
return answer('created', ARGV[15], native and 0 or 1)
