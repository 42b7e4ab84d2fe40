-- Look after live computations that nobody has looked after for a while: what a lost store, or a process that died between
-- two steps, has left in the middle is put right.
-- KEYS 1 index of live jobs  2 living workers  3 what was lost  4 those that may be given up
-- ARGV 1 prefix of the queues  2 prefix of job keys  3 prefix of what workers hold  4 ms of a worker's lease  5 ms after
--      which it is looked after again  6 jobs at the most  7 ttl of a finished job, ms  8 prefix of job channels
--      9 ms for which who asked for it counts
-- Returns {{queue to ring, ...}, {id nobody wants any more, ...}}.
local Q = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local again, rings = now + tonumber(ARGV[5]), {}
local function over(status) return status ~= 'queued' and status ~= 'retrying' and status ~= 'running' end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[6])) do
  local job = ARGV[2] .. id
  local was = redis.call('HMGET', job, 'status', 'fence', 'worker', 'taken_at', 'queue', 'priority', 'lane', 'expires_at',
    'lease', 'unheld_at', 'pid')
  local status = was[1]
  redis.call('ZADD', KEYS[1], again, id)
  if not status or over(status) then redis.call('ZREM', KEYS[1], id)
  elseif status ~= 'running' then
    if was[8] and was[8] ~= '' and now > tonumber(was[8]) then
      drop(id)
      redis.call('HSET', job, 'status', 'expired', 'finished_at', now)
      redis.call('PEXPIRE', job, ARGV[7])
      redis.call('HINCRBY', job, 'version', 1)
      redis.call('ZREM', KEYS[1], id)
      if was[9] and redis.call('GET', was[9]) == id then redis.call('UNLINK', was[9]) end
      redis.call('PUBLISH', ARGV[8] .. id, 'C')
    elseif not about(id) and now - tonumber(was[4] or 0) > 5000 then
      if status ~= 'queued' then
        redis.call('HSET', job, 'status', 'queued')
        redis.call('HINCRBY', job, 'version', 1)
        redis.call('PUBLISH', ARGV[8] .. id, 'C')
      end
      put(id, was[5], 'computation', tonumber(was[6]), was[7] or '', true)
      rings[#rings + 1] = was[5]
    end
  else
    local until_ = redis.call('ZSCORE', KEYS[2], was[3])
    local lost = false
    if not until_ then redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), was[3])  -- unknown: it may still show life
    elseif tonumber(until_) < now then lost = true
    elseif redis.call('HEXISTS', ARGV[3] .. was[3], id) == 1 then redis.call('HDEL', job, 'unheld_at')
    elseif not was[10] then redis.call('HSET', job, 'unheld_at', now)
    elseif now - tonumber(was[10]) > tonumber(ARGV[4]) then lost = true end
    if lost then
      redis.call('HSETNX', KEYS[3], id, cjson.encode({kind = 'computation', fence = tonumber(was[2]), pid = tonumber(was[11] or 0),
        queue = was[5], priority = tonumber(was[6]), lane = was[7] or '', reason = 'died', worker = was[3], deadline = 0}))
    end
  end
end
local unwanted = {}
for _, id in ipairs(redis.call('SRANDMEMBER', KEYS[4], 200)) do
  local was = redis.call('HMGET', ARGV[2] .. id, 'status', 'wanted_at', 'channel', 'cancel')
  if not was[1] or over(was[1]) then redis.call('SREM', KEYS[4], id)
  elseif not was[4] and now - tonumber(was[2]) > tonumber(ARGV[9]) then
    local told = redis.call('PUBSUB', 'NUMSUB', was[3], ARGV[8] .. id)
    if told[2] == 0 and told[4] == 0 then unwanted[#unwanted + 1] = id end
  end
end
return {rings, unwanted}
