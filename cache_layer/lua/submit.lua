-- Join the live computation of a key, or create one and ring the doorbell.
-- KEYS 1 entry  2 version  3 failure  4 lease  5 new job  6 sign of life of the queue's workers
--      7 new keys of the principal this minute  8.. broker lists of the queue, the one to ring first (none: the broker is
--      elsewhere and the caller rings)
-- ARGV 1 nonce of the entry the caller saw ("" none)  2 job id  3 epoch if there is none  4 version ttl ms
--      5 job ttl ms  6 queue limit  7 message  8 "1": compute although a value or a failure is there
--      9 prefix of job keys  10 prefix of job channels  11 ms after which a waiting job is rung again
--      12 crashes after which a job is dead  13 problem of a dead job  14 failure ttl ms  15 value channel
--      16 new keys a minute (0: any number)  17.. fields of the new job, alternating with values
-- Returns {what, job id, epoch, offset, workers alive, ring}.  what: hit (read again), failed (read again), joined,
--      created, full, quota.  ring 1: the caller must ring for this job.
-- A job whose worker went silent, or whose message was lost, is found and rung here by the next one who asks.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local forced = ARGV[8] == '1'
local alive = redis.call('EXISTS', KEYS[6])
local native = #KEYS > 7

local version = redis.call('HMGET', KEYS[2], 'e', 'o')
local new = not version[1]
if new then version = {ARGV[3], '0'} end
local function refuse(what) return {what, '', version[1], version[2], alive, 0} end
local function answer(what, job, ring)
  if new then redis.call('HSET', KEYS[2], 'e', ARGV[3], 'o', '0') end
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  return {what, job, version[1], version[2], alive, ring or 0}
end
local function ring(job_key)
  if not native then return 1 end
  local bell = redis.call('HMGET', job_key, 'list', 'message')
  redis.call('LPUSH', bell[1], bell[2])
  return 0
end

if redis.call('EXISTS', KEYS[5]) == 1 then return answer('joined', ARGV[2]) end
if not forced then
  local nonce = redis.call('GETRANGE', KEYS[1], 0, 7)
  if nonce ~= '' and nonce ~= ARGV[1] then return answer('hit', '') end
  if redis.call('EXISTS', KEYS[3]) == 1 then return answer('failed', '') end
end

local holder = redis.call('GET', KEYS[4])
if holder then
  local job = ARGV[9] .. holder
  local was = redis.call('HMGET', job, 'status', 'lease_until', 'rung_at', 'crashes')
  if was[1] == 'queued' or was[1] == 'retrying' then
    local again = 0
    if now - tonumber(was[3]) > tonumber(ARGV[11]) then
      redis.call('HSET', job, 'rung_at', now)
      again = ring(job)
    end
    return answer('joined', holder, again)
  elseif was[1] == 'running' then
    if now <= tonumber(was[2]) then return answer('joined', holder) end
    local crashes = tonumber(was[4]) + 1
    redis.call('HINCRBY', job, 'version', 1)
    if crashes < tonumber(ARGV[12]) then
      redis.call('HSET', job, 'status', 'queued', 'crashes', crashes, 'rung_at', now)
      local again = ring(job)
      redis.call('PUBLISH', ARGV[10] .. holder, 'C')
      return answer('joined', holder, again)
    end
    redis.call('HSET', job, 'status', 'dead', 'crashes', crashes, 'finished_at', now, 'error', ARGV[13])
    redis.call('HDEL', job, 'message')
    redis.call('UNLINK', KEYS[4])
    redis.call('SET', KEYS[3], ARGV[13], 'PX', ARGV[14])
    redis.call('PUBLISH', ARGV[10] .. holder, 'C')
    redis.call('PUBLISH', ARGV[15], 'E' .. ARGV[13])
    return answer('failed', holder)
  end
end

if native then
  local waiting = 0
  for i = 8, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
  if waiting >= tonumber(ARGV[6]) then return refuse('full') end
end
if new and ARGV[16] ~= '0' then
  local asked = redis.call('INCR', KEYS[7])
  if asked == 1 then redis.call('PEXPIRE', KEYS[7], 60000) end
  if asked > tonumber(ARGV[16]) then return refuse('quota') end
end
local list = native and KEYS[8] or ''
redis.call('HSET', KEYS[5], 'status', 'queued', 'version', 1, 'fence', 0, 'crashes', 0, 'reruns', 0,
  'created_at', now, 'rung_at', now, 'list', list, 'message', ARGV[7], unpack(ARGV, 17))
redis.call('PEXPIRE', KEYS[5], ARGV[5])
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[5])
if native then redis.call('LPUSH', list, ARGV[7]) end
return answer('created', ARGV[2], native and 0 or 1)
