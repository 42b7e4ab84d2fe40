-- Store a computed value, give it its version, finish its job and tell everyone: all or nothing.
-- KEYS 1 entry  2 version  3 failure  4 lease  5 job (of a value computed in place: the lease again)
--      6 index of live jobs  7 run of the server (an epoch of another run is over)  8 what the worker holds (in place: the
--      lease again)  9.. tags
-- ARGV 1 holder of the lease: job id or token  2 fence ("" no job)  3 nonce  4 epoch if there is none
--      5 version ttl ms  6 life ms  7 digest of the payload  8 tail of the header  9 payload  10 value channel
--      11 job channel  12 travel limit, bytes  13 ttl of a finished job, ms  14 reruns at the most
--      15 prefix of the queues  16 what the asker has brought this minute ("" a job: its record says it)
--      17 ms after which somebody looks after a waiting job  18 attempts kept in the history  19.. the tag versions
--      captured before the computation
-- Returns {what, epoch, offset, ring, queue that may go on}.  what: stored; revoked: the lease is somebody else's, or this
--      attempt is over; superseded: it, or data it was computed from, was invalidated meanwhile.  A superseded job waits
--      again, before all others (ring 1: the caller rings), until its reruns are used up (ring -1: the caller fails it).
-- The offset grows only if the bytes changed.
local Q = ARGV[15]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local job = ARGV[2] ~= ''
local outdated, brought, lane, cancel = false, ARGV[16], '', false
if job then
  local was = redis.call('HMGET', KEYS[5], 'status', 'fence', 'outdated', 'new', 'lane', 'cancel')
  if was[1] ~= 'running' or was[2] ~= ARGV[2] then return {'revoked', '', '0', 0, ''} end
  outdated, brought, lane, cancel = was[3], was[4] or '', was[5] or '', was[6]
end
local going_on = ''
local function leave()
  if not job then return end
  redis.call('HDEL', KEYS[8], ARGV[1])
  redis.call('HDEL', Q .. 'cancels', ARGV[1])
  going_on = release(ARGV[1], lane) or ''
  redis.call('HINCRBY', KEYS[5], 'version', 1)
  redis.call('PUBLISH', ARGV[11], 'C')
end
local function finish(status)
  if not job then return end
  remember(KEYS[5], status, nil, tonumber(ARGV[18]))
  redis.call('HSET', KEYS[5], 'status', status, 'finished_at', now)
  redis.call('PEXPIRE', KEYS[5], ARGV[13])
  redis.call('ZREM', KEYS[6], ARGV[1])
  leave()
end
if redis.pcall('GET', KEYS[4]) ~= ARGV[1] then
  finish('cancelled')
  return {'revoked', '', '0', 0, going_on}
end
for i = 9, #KEYS do
  outdated = outdated or redis.pcall('GET', KEYS[i]) ~= ARGV[10 + i]
end
if outdated then
  if not job then redis.call('UNLINK', KEYS[4]) return {'superseded', '', '0', 0, ''} end
  if cancel then  -- nobody wants another run of it
    redis.call('UNLINK', KEYS[4])
    finish('cancelled')
    return {'superseded', '', '0', 0, going_on}
  end
  if redis.call('HINCRBY', KEYS[5], 'reruns', 1) > tonumber(ARGV[14]) then return {'superseded', '', '0', -1, ''} end
  redis.call('HSET', KEYS[5], 'status', 'queued')
  remember(KEYS[5], 'superseded', nil, tonumber(ARGV[18]))
  tally('superseded')
  redis.call('ZADD', KEYS[6], now + tonumber(ARGV[17]), ARGV[1])
  leave()
  local is = redis.call('HMGET', KEYS[5], 'queue', 'priority')
  put(ARGV[1], is[1], 'computation', tonumber(is[2]), lane, true)
  return {'superseded', '', '0', 1, going_on}
end
local run = redis.call('GET', KEYS[7]) or ''
local version = redis.pcall('HMGET', KEYS[2], 'e', 'o', 'd', 'r')
if version.err or version[4] ~= run then redis.call('UNLINK', KEYS[2]) version = {} end
local epoch = version[1] or ARGV[4]
local offset = tonumber(version[2] or 0)
if offset == 0 or version[3] ~= ARGV[7] then offset = offset + 1 end
redis.call('HSET', KEYS[2], 'e', epoch, 'o', offset, 'd', ARGV[7], 'r', run)
redis.call('PEXPIRE', KEYS[2], ARGV[5])
local entry = ARGV[3] .. epoch .. string.format('%016d', offset) .. ARGV[8] .. ARGV[9]
redis.call('SET', KEYS[1], entry, 'PX', ARGV[6])
if brought ~= '' and redis.call('EXISTS', brought) == 1 then redis.call('HINCRBY', brought, 'b', #entry) end
redis.call('UNLINK', KEYS[3], KEYS[4])
if job then redis.call('HDEL', KEYS[5], 'error') tally('succeeded') end
finish('succeeded')
redis.call('PUBLISH', ARGV[10], #ARGV[9] <= tonumber(ARGV[12]) and 'V' .. entry or 'C')
return {'stored', epoch, tostring(offset), 0, going_on}
