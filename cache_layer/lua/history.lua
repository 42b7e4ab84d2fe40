-- Part of a log, and its position; where there was none, its epoch begins.
-- KEYS 1 stream  2 its position  3 run of the server (an epoch of another run is over)
-- ARGV 1 epoch if there is none  2 life of the position, ms  3 from, 4 to which offset  5 at most how many
--      6 "1": the newest of them instead of the oldest
-- Returns {epoch, offset of the newest, ms the stream still lives (below 0: there is none), entries, oldest first}.
local run = redis.call('GET', KEYS[3]) or ''
local found = redis.pcall('HMGET', KEYS[2], 'e', 'o', 'r')
if found.err or not found[1] or found[3] ~= run then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'e', ARGV[1], 'o', '0', 'r', run)
  found = {ARGV[1], '0'}
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local entries = {}
if tonumber(ARGV[5]) > 0 then
  if ARGV[6] == '1' then
    local back = redis.call('XREVRANGE', KEYS[1], '0-' .. ARGV[4], '0-' .. ARGV[3], 'COUNT', ARGV[5])
    for i = #back, 1, -1 do entries[#entries + 1] = back[i] end
  else
    entries = redis.call('XRANGE', KEYS[1], '0-' .. ARGV[3], '0-' .. ARGV[4], 'COUNT', ARGV[5])
  end
end
return {found[1], found[2], redis.call('PTTL', KEYS[1]), entries}
