-- A sign of life of one process in its roles, or its farewell.
-- KEYS the roles: sorted sets of processes by when their sign expires
-- ARGV 1 process  2 ms the sign counts, 0: it leaves
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, role in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', role, '-inf', now)
  if ARGV[2] == '0' then redis.call('ZREM', role, ARGV[1])
  else
    redis.call('ZADD', role, now + tonumber(ARGV[2]), ARGV[1])
    redis.call('PEXPIRE', role, ARGV[2])
  end
end
return 1
