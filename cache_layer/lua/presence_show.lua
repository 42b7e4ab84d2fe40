-- Clients are there, on one topic: they come, or show that they have not gone.
-- KEYS 1 who is there
-- ARGV 1 ms they count  2 "1": forget those who have not shown themselves  then for each: client, user, info
-- Returns how many were not there.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if ARGV[2] == '1' then
  local found = redis.call('HGETALL', KEYS[1])
  for i = 1, #found, 2 do
    if tonumber(string.match(found[i + 1], '^%d+')) <= now then redis.call('HDEL', KEYS[1], found[i]) end
  end
end
local came = 0
for i = 3, #ARGV, 3 do
  local entry = string.format('%.0f', now + ARGV[1]) .. ':' .. #ARGV[i + 1] .. ':' .. ARGV[i + 1] .. ARGV[i + 2]
  came = came + redis.call('HSET', KEYS[1], ARGV[i], entry)
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return came
