-- A web process says what users have begun to follow there, still follow, and follow no more.
-- KEYS what each of the users follows: topic:process, by when it counts no more
-- ARGV 1 ms it counts  then for each key: number of those that are followed, they, number of those that are not, they
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local at = 2
for _, key in ipairs(KEYS) do
  if redis.call('TYPE', key).ok ~= 'zset' then redis.call('DEL', key) end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local there = tonumber(ARGV[at])
  for i = at + 1, at + there do redis.call('ZADD', key, string.format('%.0f', now + ARGV[1]), ARGV[i]) end
  at = at + there + 1
  local gone = tonumber(ARGV[at])
  for i = at + 1, at + gone do redis.call('ZREM', key, ARGV[i]) end
  at = at + gone + 1
  if there > 0 then redis.call('PEXPIRE', key, ARGV[1]) end
end
return 0
