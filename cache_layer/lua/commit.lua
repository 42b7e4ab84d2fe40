-- Store a computed value, give it its version, finish its job and tell everyone: all or nothing.
-- KEYS 1 entry  2 version  3 failure  4 lease  5 job (of a value computed in place: the lease again)
--      6 index of live jobs  7 run of the server (an epoch of another run is over)  8.. tags
-- ARGV 1 holder of the lease: job id or token  2 fence ("" no job)  3 nonce  4 epoch if there is none
--      5 version ttl ms  6 life ms  7 digest of the payload  8 tail of the header  9 payload  10 value channel
--      11 job channel  12 travel limit, bytes  13 ttl of a finished job, ms  14 reruns at the most
--      15 ms after which a waiting job is rung again  16 what the asker has brought this minute ("" a job: its record
--      says it)  17.. the tag versions captured before the computation
-- Returns {what, epoch, offset, ring}.  what: stored; revoked: the lease is somebody else's, or this attempt is over;
--      superseded: it, or data it was computed from, was invalidated meanwhile.  A superseded job waits again (its caller
--      rings where ring is 1) until its reruns are used up (ring -1: the caller must fail it).
-- The offset grows only if the bytes changed.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local job = ARGV[2] ~= ''
local outdated, brought = false, ARGV[16]
if job then
  local was = redis.call('HMGET', KEYS[5], 'status', 'fence', 'outdated', 'new')
  if was[1] ~= 'running' or was[2] ~= ARGV[2] then return {'revoked', '', '0', 0} end
  outdated, brought = was[3], was[4] or ''
end
local function tell() if job then
  redis.call('HINCRBY', KEYS[5], 'version', 1)
  redis.call('PUBLISH', ARGV[11], 'C')
end end
if redis.pcall('GET', KEYS[4]) ~= ARGV[1] then
  if job then
    redis.call('HSET', KEYS[5], 'status', 'cancelled', 'finished_at', now)
    redis.call('HDEL', KEYS[5], 'message')
    redis.call('PEXPIRE', KEYS[5], ARGV[13])
    redis.call('ZREM', KEYS[6], ARGV[1])
    tell()
  end
  return {'revoked', '', '0', 0}
end
for i = 8, #KEYS do
  outdated = outdated or redis.pcall('GET', KEYS[i]) ~= ARGV[9 + i]
end
if outdated then
  if not job then redis.call('UNLINK', KEYS[4]) return {'superseded', '', '0', 0} end
  if redis.call('HINCRBY', KEYS[5], 'reruns', 1) > tonumber(ARGV[14]) then return {'superseded', '', '0', -1} end
  redis.call('HSET', KEYS[5], 'status', 'queued', 'rung_at', now)
  redis.call('ZADD', KEYS[6], now + tonumber(ARGV[15]), ARGV[1])
  local bell = redis.call('HMGET', KEYS[5], 'list', 'message')
  if bell[1] ~= '' then redis.call('LPUSH', bell[1], bell[2]) end
  tell()
  return {'superseded', '', '0', bell[1] == '' and 1 or 0}
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
if job then
  redis.call('HSET', KEYS[5], 'status', 'succeeded', 'finished_at', now)
  redis.call('HDEL', KEYS[5], 'message', 'error')
  redis.call('PEXPIRE', KEYS[5], ARGV[13])
  redis.call('ZREM', KEYS[6], ARGV[1])
  tell()
end
redis.call('PUBLISH', ARGV[10], #ARGV[9] <= tonumber(ARGV[12]) and 'V' .. entry or 'C')
return {'stored', epoch, tostring(offset), 0}
