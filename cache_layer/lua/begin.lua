-- The right to compute a key in this very process (offload=False): lease and tag versions, before the function runs.
-- KEYS 1 entry  2 version  3 failure  4 lease  5.. tags
-- ARGV 1 nonce of the entry the caller saw ("" none)  2 token  3 lease ms  4 epoch if there is none  5 version ttl ms
--      6 tag ttl ms  7 "1": compute although a value or a failure is there  8.. a fresh version for each tag
-- Safe to repeat with the same token.  Returns {what, epoch, offset, tag version...}.  what: hit, failed (both: read again), busy, begun.
local version = redis.call('HMGET', KEYS[2], 'e', 'o')
if not version[1] then
  version = {ARGV[4], '0'}
  redis.call('HSET', KEYS[2], 'e', ARGV[4], 'o', '0')
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if ARGV[7] ~= '1' then
  local nonce = redis.call('GETRANGE', KEYS[1], 0, 7)
  if nonce ~= '' and nonce ~= ARGV[1] then return {'hit', version[1], version[2]} end
  if redis.call('EXISTS', KEYS[3]) == 1 then return {'failed', version[1], version[2]} end
end
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[2] then return {'busy', version[1], version[2]} end
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
local out = {'begun', version[1], version[2]}
for i = 5, #KEYS do
  local tag = redis.call('GET', KEYS[i])
  if tag then redis.call('PEXPIRE', KEYS[i], ARGV[6])
  else tag = ARGV[3 + i]; redis.call('SET', KEYS[i], tag, 'PX', ARGV[6]) end
  out[#out + 1] = tag
end
return out
