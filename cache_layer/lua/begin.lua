-- The right to compute a key in this very process (offload=False): lease and tag versions, before the function runs.
-- KEYS 1 entry  2 version  3 failure  4 lease  5 what the asker has brought this minute
--      6 run of the server (an epoch of another run is over)  7.. tags
-- ARGV 1 nonce of the entry the caller saw ("" none)  2 token  3 lease ms  4 epoch if there is none  5 version ttl ms
--      6 tag ttl ms  7 "1": compute although a value or a failure is there  8 new keys a minute (0: any number)
--      9 bytes of new values a minute  10 prefix of job keys  11.. a fresh version for each tag
-- Safe to repeat with the same token.  Returns {what, epoch, offset, tag version...}.  what: hit, failed (both: read
--      again), busy, quota, begun.
-- A key that is of another type than it should be is foreign, and goes.
local run = redis.call('GET', KEYS[6]) or ''
local version = redis.pcall('HMGET', KEYS[2], 'e', 'o', 'r')
if version.err or version[3] ~= run then redis.call('UNLINK', KEYS[2]) version = {} end
local new = not version[1]
if new then version = {ARGV[4], '0'} end
local function answer(what) return {what, version[1], version[2]} end
if ARGV[7] ~= '1' then
  local nonce = redis.pcall('GETRANGE', KEYS[1], 0, 7)
  if type(nonce) ~= 'string' then redis.call('UNLINK', KEYS[1]) nonce = '' end
  if nonce ~= '' and nonce ~= ARGV[1] then return answer('hit') end
  if redis.pcall('GETRANGE', KEYS[3], 0, 0) == '{' then return answer('failed') end
end
local holder = redis.pcall('GET', KEYS[4])
if type(holder) == 'table' then redis.call('UNLINK', KEYS[4]) holder = false end
if holder and string.sub(holder, 1, 5) ~= 'here:' then
  local status = redis.call('HGET', ARGV[10] .. holder, 'status')
  if status ~= 'queued' and status ~= 'running' and status ~= 'retrying' then holder = false end  -- nobody's
end
if holder and holder ~= ARGV[2] then return answer('busy') end
if new then
  if ARGV[8] ~= '0' then
    local brought = redis.call('HMGET', KEYS[5], 'n', 'b')
    if tonumber(brought[1] or 0) >= tonumber(ARGV[8]) or tonumber(brought[2] or 0) >= tonumber(ARGV[9]) then
      return answer('quota')
    end
    redis.call('HINCRBY', KEYS[5], 'n', 1)
    if not brought[1] then redis.call('PEXPIRE', KEYS[5], 60000) end
  end
  redis.call('HSET', KEYS[2], 'e', ARGV[4], 'o', '0', 'r', run)
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
local out = {'begun', version[1], version[2]}
for i = 7, #KEYS do
  local tag = redis.pcall('GET', KEYS[i])
  if type(tag) == 'string' and #tag == #ARGV[4 + i] then
    -- Every change of its life is told to the processes that hold values with this tag: seldom, then.
    if redis.call('PTTL', KEYS[i]) < ARGV[6] / 2 then redis.call('PEXPIRE', KEYS[i], ARGV[6]) end
  else tag = ARGV[4 + i]; redis.call('SET', KEYS[i], tag, 'PX', ARGV[6]) end
  out[#out + 1] = tag
end
return out
