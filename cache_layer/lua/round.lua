-- One round of a reaper: what is due is put on its queue, what was lost is named, and rings that were lost are rung again.
-- KEYS 1 living workers  2 what was lost
-- ARGV 1 prefix of the queues  2 prefix of what workers hold  3 ttl of what was lost, ms  4 ms after which a silent queue is
--      rung for again  5 jobs of a lane that may run  6 queues as a JSON list of {name, lists of the broker}
-- Returns {{queue to ring, how often, ...}, {id, what was lost as JSON, ...}}.
local Q = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local rings, times = {}, {}
local function ring(queue, by)
  if not times[queue] then rings[#rings + 1] = queue end
  times[queue] = (times[queue] or 0) + by
end
-- Due: at most as many as fit into a short script.
for _, id in ipairs(redis.call('ZRANGE', Q .. 'due', '-inf', now, 'BYSCORE', 'LIMIT', 0, 500)) do
  local queue, kind, priority, lane = about(id)
  redis.call('ZREM', Q .. 'due', id)
  if queue then
    put(id, queue, kind, priority, lane)
    ring(queue, 1)
  end
end
-- Lanes whose running jobs have ended without telling.
for _, lane in ipairs(redis.call('SRANDMEMBER', Q .. 'parked', 20)) do
  local queue = unpark(lane, tonumber(ARGV[5]))
  if queue then ring(queue, 1) end
end
-- When no reaper was served for a while the store was silent, for the workers too: they have a moment to show life.
local last = redis.call('GETSET', Q .. 'round', now)
redis.call('PEXPIRE', Q .. 'round', ARGV[3])
if not last or now - tonumber(last) > 3000 then
  for _, worker in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZADD', KEYS[1], 'XX', 'GT', now + 5000, worker)
  end
end
-- Workers whose lease ran out: what they held is lost.
for _, worker in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, 20)) do
  local held = redis.call('HGETALL', ARGV[2] .. worker)
  for i = 1, #held, 2 do
    local lost = cjson.decode(held[i + 1])
    lost.reason, lost.worker = 'died', worker
    -- A loss that another reaper has just seen after is older than what is held.
    local known = redis.call('HGET', KEYS[2], held[i])
    local before = known and cjson.decode(known)
    if not before or before.worker ~= worker or before.pid ~= lost.pid then
      redis.call('HSET', KEYS[2], held[i], cjson.encode(lost))
    end
    tally('lost')
  end
  redis.call('DEL', ARGV[2] .. worker)
  redis.call('ZREM', KEYS[1], worker)
end
-- Queues where something waits and nobody has been rung for: a message was lost.
for _, queue in ipairs(cjson.decode(ARGV[6])) do
  local waiting = length(queue[1])
  if waiting > 0 then
    local seen = redis.call('HMGET', Q .. 's:' .. queue[1], 'heard', 'rung', 'patience', 'short')
    local patience = tonumber(seen[3] or ARGV[4])
    local quiet = math.max(tonumber(seen[1] or 0), tonumber(seen[2] or 0))
    local outstanding = 0
    for i = 1, #queue[2] do outstanding = outstanding + redis.call('LLEN', queue[2][i]) end
    local heard = tonumber(seen[1] or 0) > tonumber(seen[2] or 0)
    if #queue[2] > 0 or heard then patience = tonumber(ARGV[4]) end
    -- Where they can be counted, one is missing also on a busy queue: whoever is least urgent there would wait for ever.
    local short = #queue[2] > 0 and waiting > outstanding and tonumber(seen[4] or now)
    if not short then redis.call('HDEL', Q .. 's:' .. queue[1], 'short')
    else redis.call('HSETNX', Q .. 's:' .. queue[1], 'short', now) end
    if quiet == 0 then
      redis.call('HSET', Q .. 's:' .. queue[1], 'rung', now)
    elseif waiting > outstanding and (now - quiet > patience or short and now - short > patience) then
      ring(queue[1], math.min(100, waiting - outstanding))
      tally('rung again')
      -- Where messages cannot be counted they may just be waiting, because all workers are busy: ever more seldom.
      redis.call('HSET', Q .. 's:' .. queue[1], 'rung', now, 'patience', math.min(300000, 2 * patience))
      redis.call('HDEL', Q .. 's:' .. queue[1], 'short')
    end
    redis.call('PEXPIRE', Q .. 's:' .. queue[1], STATS_TTL)
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local out = {}
for _, queue in ipairs(rings) do out[#out + 1] = queue out[#out + 1] = times[queue] end
return {out, redis.call('HGETALL', KEYS[2])}
