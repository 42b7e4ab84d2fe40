-- A worker process shows life, and learns what it holds and which of it shall end.
-- KEYS 1 living workers  2 what it holds  3 jobs whose end was asked for  4.. its roles: sorted sets as in sign.lua
-- ARGV 1 worker  2 ms its lease lasts, 0: it leaves  3 process, as its roles name it  4 ms a sign of life counts
--      5 ttl of what it holds, ms
-- Returns {now, id, what is held as JSON, when its end was asked for or "", ...}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local leaves = ARGV[2] == '0'
for i = 4, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  if leaves then redis.call('ZREM', KEYS[i], ARGV[3])
  else
    redis.call('ZADD', KEYS[i], now + tonumber(ARGV[4]), ARGV[3])
    redis.call('PEXPIRE', KEYS[i], ARGV[4])
  end
end
local out = {now}
local held = redis.call('HGETALL', KEYS[2])
-- One that leaves with work in its hands is dead to it at once.
if leaves and #held == 0 then redis.call('ZREM', KEYS[1], ARGV[1])
else redis.call('ZADD', KEYS[1], leaves and now - 1 or now + tonumber(ARGV[2]), ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
for i = 1, #held, 2 do
  out[#out + 1] = held[i]
  out[#out + 1] = held[i + 1]
  out[#out + 1] = redis.call('HGET', KEYS[3], held[i]) or ''
end
return out
