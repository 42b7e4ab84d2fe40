-- A worker's process is gone, or was ended: what it held is lost.  What another process of the worker holds by now is not.
-- KEYS 1 what the worker holds  2 what was lost
-- ARGV 1 job id  2 process that is gone  3 worker  4 reason  5 number of the attempt, "" for whichever it was at
--      6 "1": that process lives, and holds it no longer
-- Returns 1, or 0 when that process does not hold it any more.
local raw = redis.call('HGET', KEYS[1], ARGV[1])
local lost = raw and cjson.decode(raw)
if not lost or lost.pid ~= tonumber(ARGV[2]) then return 0 end
if ARGV[5] ~= '' and lost.fence ~= tonumber(ARGV[5]) then return 0 end
lost.worker, lost.reason = ARGV[3], ARGV[4]
-- A loss of the same job that a reaper has just seen after is older than what is held.
local known = redis.call('HGET', KEYS[2], ARGV[1])
local before = known and cjson.decode(known)
if not before or before.worker ~= lost.worker or before.pid ~= lost.pid or before.fence ~= lost.fence then
  redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(lost))
end
if ARGV[6] == '1' then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1
