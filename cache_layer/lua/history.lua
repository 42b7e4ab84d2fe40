-- Part of a log, and its position; where there was none, its epoch begins.
-- KEYS 1 stream  2 its position  3 run of the server (an epoch of another run is over)
-- ARGV 1 epoch if there is none  2 life of the position, ms  3 from, 4 to which offset  5 at most how many
--      6 "1": the newest of them instead of the oldest  7 bytes after which no more are taken
--      8 life of the position of a topic on which nothing was published, ms
-- Returns {epoch, offset of the newest, ms the stream still lives (below 0: there is none), entries, oldest first}.
local run = redis.call('GET', KEYS[3]) or ''
local found = redis.pcall('HMGET', KEYS[2], 'e', 'o', 'r')
if found.err or not found[1] or found[3] ~= run then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'e', ARGV[1], 'o', '0', 'r', run)
  found = {ARGV[1], '0'}
end
-- Of an empty topic it is not worth keeping for long: anybody may ask for any name.
redis.call('PEXPIRE', KEYS[2], found[2] == '0' and math.min(ARGV[2], ARGV[8]) or ARGV[2])
local entries, from, to = {}, tonumber(ARGV[3]), tonumber(ARGV[4])
local function id(offset) return string.format('0-%.0f', offset) end
local left, room, newest = tonumber(ARGV[5]), tonumber(ARGV[7]), ARGV[6] == '1'
while left > 0 and room > 0 do
  local part
  if newest then
    part = redis.call('XREVRANGE', KEYS[1], id(to), id(from), 'COUNT', math.min(left, 32))
  else
    part = redis.call('XRANGE', KEYS[1], id(from), id(to), 'COUNT', math.min(left, 32))
  end
  if #part == 0 then break end
  for _, entry in ipairs(part) do
    if room > 0 then
      entries[#entries + 1] = entry
      room = room - #entry[2][2] - #entry[2][4] - #entry[2][6]
    end
  end
  left = left - #part
  local last = tonumber(string.match(part[#part][1], '%-(%d+)'))
  if newest then to = last - 1 else from = last + 1 end
  if from > to then break end
end
if newest then
  local n = #entries
  for i = 1, math.floor(n / 2) do entries[i], entries[n + 1 - i] = entries[n + 1 - i], entries[i] end
end
return {found[1], found[2], redis.call('PTTL', KEYS[1]), entries}
