-- Put a job on its queue, now or later, and ring the doorbell; it waits already: nothing happens.
-- KEYS 1 job: of a computation, which has to be waiting  2 list of the broker to ring (none: the caller rings)
-- ARGV 1 prefix of the queues  2 job id  3 queue  4 kind  5 priority  6 lane  7 ms from now (0: now)  8 "1": before all
--      others of its priority  9 message  10 "1": a computation that was taken, and whose process died before the claim
-- Returns 1: the caller must ring; else 0.
local Q = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
if ARGV[4] == 'computation' then
  local status = redis.call('HGET', KEYS[1], 'status')
  if status ~= 'queued' and status ~= 'retrying' then return 0 end
end
if ARGV[10] == '1' and redis.call('HDEL', KEYS[1], 'taken_at') == 1 then redis.call('HINCRBY', KEYS[1], 'unclaimed', 1) end
local waits = about(ARGV[2])
if tonumber(ARGV[7]) > 0 then
  if not waits then put_later(ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], now + tonumber(ARGV[7])) end
  return 0
end
if waits and not redis.call('ZSCORE', Q .. 'due', ARGV[2]) then return 0 end
if not put(ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[8] == '1') then return 0 end
if not KEYS[2] then return 1 end
redis.call('LPUSH', KEYS[2], ARGV[9])
return 0
