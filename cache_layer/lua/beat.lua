-- A running attempt asks whether it goes on, and perhaps has something to tell.
-- KEYS 1 job (of an action: its progress)  2 what its worker holds  3 jobs whose end was asked for
-- ARGV 1 job id  2 fence  3 "1": a computation  4 what is held, as JSON  5 progress JSON ("" none)  6 job channel
--      7 value channel ("" none)  8 signal JSON  9 ttl of the progress of an action, ms  10 ttl of what a worker holds, ms
-- Returns 0: this attempt has lost its job, stop; 1: go on; 2: somebody asked to cancel; 3: an action that nobody knows
--      here, the database says whether it still is this attempt's.
if ARGV[3] == '1' then
  local was = redis.call('HMGET', KEYS[1], 'status', 'fence')
  if was[1] ~= 'running' or was[2] ~= ARGV[2] then return 0 end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[10])
else
  local held = redis.call('HGET', KEYS[2], ARGV[1])
  local fence = held and cjson.decode(held).fence or 0  -- 0: nobody's, or taken a second time by mistake
  if fence == 0 then return 3 end
  if fence ~= tonumber(ARGV[2]) then return 0 end
end
if ARGV[5] ~= '' then
  if ARGV[3] == '1' then
    redis.call('HSET', KEYS[1], 'progress', ARGV[5])
    redis.call('HINCRBY', KEYS[1], 'version', 1)
  else
    if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[2] then redis.call('DEL', KEYS[1]) end
    redis.call('HSET', KEYS[1], 'progress', ARGV[5], 'fence', ARGV[2])
    redis.call('HINCRBY', KEYS[1], 'reports', 1)
    redis.call('PEXPIRE', KEYS[1], ARGV[9])
  end
  redis.call('PUBLISH', ARGV[6], 'C')
  if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[7], 'P' .. ARGV[8]) end
end
return redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 and 2 or 1
