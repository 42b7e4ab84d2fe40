-- The position of a key's newest value; where there was none, its epoch begins.
-- KEYS 1 version  2 run of the server (an epoch of another run is over)
-- ARGV 1 epoch if there is none  2 version ttl ms
-- Returns {epoch, offset}.
local run = redis.call('GET', KEYS[2]) or ''
local found = redis.pcall('HMGET', KEYS[1], 'e', 'o', 'r')
if found.err or found[3] ~= run then redis.call('UNLINK', KEYS[1]) found = {} end
if not found[1] then
  found = {ARGV[1], '0'}
  redis.call('HSET', KEYS[1], 'e', ARGV[1], 'o', '0', 'r', run)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {found[1], found[2]}
