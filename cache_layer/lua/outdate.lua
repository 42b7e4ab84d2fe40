-- Outdate values: by tag (the namespace's own version is one of them), and single ones.  One step, one round trip.
-- KEYS tags, then entry, failure and lease of each single value
-- ARGV 1 number of tags  2 "1": softly  3 tag ttl ms  4 prefix of job keys  5 offset of fresh and life in an entry
--      6 channel of the invalidations  7 what to tell there  8 channel of the processes with values of their own
--      9 what to tell there  10.. a fresh version for each tag
-- It takes the right to fill a single value from whoever computes it: a job starts over at its commit.
-- Returns how many processes with values of their own were told.
local soft = ARGV[2] == '1'
local count = tonumber(ARGV[1])
for i = 1, count do
  local version = ARGV[9 + i]
  if soft then
    local hard = redis.pcall('GETRANGE', KEYS[i], 0, 7)
    if type(hard) == 'string' and #hard == 8 then version = hard .. string.sub(version, 9) end
  end
  redis.call('SET', KEYS[i], version, 'PX', ARGV[3])
end
local from = tonumber(ARGV[5])
for i = count + 1, #KEYS, 3 do
  if soft then
    local times = redis.pcall('GETRANGE', KEYS[i], from, from + 15)
    if type(times) == 'string' and #times == 16 then
      local fresh, life = struct.unpack('>I8>I8', times)
      -- Its age follows from what is left of its life; a millisecond more, so that no rounding calls it fresh.
      local left = life - fresh - 1
      if left < 1 then redis.call('UNLINK', KEYS[i])
      elseif redis.call('PTTL', KEYS[i]) > left then redis.call('PEXPIRE', KEYS[i], left) end
    end
  else
    redis.call('UNLINK', KEYS[i], KEYS[i + 1])
  end
  local holder = redis.pcall('GET', KEYS[i + 2])
  if type(holder) ~= 'string' then holder = false end
  if holder and string.sub(holder, 1, 5) == 'here:' then
    redis.call('UNLINK', KEYS[i + 2])
  elseif holder and redis.call('HGET', ARGV[4] .. holder, 'status') == 'running' then
    redis.call('HSET', ARGV[4] .. holder, 'outdated', '1')
  end
end
-- First they forget, then everybody looks again.
local told = redis.call('PUBSUB', 'NUMSUB', ARGV[8])[2]  -- what PUBLISH returns counts listeners by pattern, too
redis.call('PUBLISH', ARGV[8], ARGV[9])
redis.call('PUBLISH', ARGV[6], ARGV[7])
return told
