-- Append a publication to a log, give it its offset and tell everyone: all or nothing.
-- KEYS 1 stream  2 its position  3 run of the server (an epoch of another run is over)
-- ARGV 1 epoch if there is none  2 publications kept  3 life of the stream, ms  4 life of the position, ms
--      5 data  6 info  7 tags  8 channel  9 travel limit, bytes
-- Returns {epoch, offset}.
local run = redis.call('GET', KEYS[3]) or ''
local found = redis.pcall('HMGET', KEYS[2], 'e', 'o', 'r')
if found.err or not found[1] or found[3] ~= run then
  -- What an older epoch left behind would be taken for part of this one.
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'e', ARGV[1], 'o', '0', 'r', run)
  found = {ARGV[1], '0'}
end
local offset = redis.call('HINCRBY', KEYS[2], 'o', 1)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '0-' .. offset, 'd', ARGV[5], 'i', ARGV[6], 't', ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local message = 'C'
if #ARGV[5] <= tonumber(ARGV[9]) then
  message = 'L' .. table.concat({found[1], offset, #ARGV[6], #ARGV[7]}, ':') .. ':' .. ARGV[6] .. ARGV[7] .. ARGV[5]
end
redis.call('PUBLISH', ARGV[8], message)
return {found[1], tostring(offset)}
