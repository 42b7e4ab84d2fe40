-- Fair queues.  Not a script: it stands where others say `--# _queue.lua`; they have set `Q`, the
-- prefix of its keys, and `now`, ms.
--
-- A queue is one sorted set.  A job's place in it is its priority and, within a priority, a virtual time: one more than
-- that of the job last taken, or of the last of the same lane (whoever asked), if that is later.  So lanes take turns,
-- however many jobs one of them has (self-clocked fair queueing: Golestani, INFOCOM 1994), and a waiting job is found,
-- taken and counted in O(log n).
--   w:<queue>  zset   id -> place          of     hash  id -> queue|kind|priority|lane, of all that wait or are due
--   t:<queue>  hash   virtual times        lanes  hash  lane -> how many of its jobs wait
--   r:<lane>   zset   running id -> until  p:<lane>  list  ids that wait for one of these to end;  parked  set of lanes
--   due        zset   id -> when it is put on its queue            s:<queue>  hash  how fast it is taken from
--   counts     hash   what happened -> how often
local BAND = 2 ^ 48
local STATS_TTL = 3600000
local function tally(what)  -- for those who run the service; not for decisions
  if redis.call('HINCRBY', Q .. 'counts', what, 1) == 1 then redis.call('PEXPIRE', Q .. 'counts', 30 * 86400000) end
end
local function text(number) return string.format('%.0f', number) end
local function about(id)
  local told = redis.call('HGET', Q .. 'of', id)
  if not told then return nil end
  local queue, kind, priority, lane = string.match(told, '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
  return queue, kind, tonumber(priority), lane
end
local function note(id, queue, kind, priority, lane)
  redis.call('HSET', Q .. 'of', id, queue .. '|' .. kind .. '|' .. priority .. '|' .. lane)
end
local function count(lane, by)
  if redis.call('HINCRBY', Q .. 'lanes', lane, by) <= 0 then redis.call('HDEL', Q .. 'lanes', lane) end
end
-- What lanes are owed is remembered as long as it makes a difference: while it lies ahead of what was taken last.
local function forget_served(queue)
  local times, told, past = Q .. 't:' .. queue, redis.call('HGETALL', Q .. 't:' .. queue), {}
  local reached = {}
  for i = 1, #told, 2 do reached[told[i]] = tonumber(told[i + 1]) end
  for i = 1, #told, 2 do
    local band = string.match(told[i], '^(%d)|')
    if band and reached[told[i]] <= (reached['v' .. band] or 0) then past[#past + 1] = told[i] end
  end
  for i = 1, #past, 1000 do redis.call('HDEL', times, unpack(past, i, math.min(#past, i + 999))) end
end
-- Put a job at the end of its lane, or before all others of its priority.  False: it waits already.
local function put(id, queue, kind, priority, lane, in_front)
  redis.call('ZREM', Q .. 'due', id)
  redis.call('ZREM', Q .. 'r:' .. lane, id)  -- what waits does not run: it must not wait for its own end
  if redis.call('ZSCORE', Q .. 'w:' .. queue, id) then return false end
  local times, band = Q .. 't:' .. queue, text(9 - priority)
  local at = tonumber(redis.call('HGET', times, 'v' .. band) or 0)
  if in_front then at = at - 1
  else
    at = math.max(at, tonumber(redis.call('HGET', times, band .. '|' .. lane) or 0)) + 1
    redis.call('HSET', times, band .. '|' .. lane, text(at))
    if redis.call('HLEN', times) > 4096 + 2 * redis.call('ZCARD', Q .. 'w:' .. queue) then forget_served(queue) end
  end
  redis.call('ZADD', Q .. 'w:' .. queue, text((9 - priority) * BAND + at), id)
  note(id, queue, kind, priority, lane)
  count(lane, 1)
  return true
end
-- Put it on its queue at a later time.
local function put_later(id, queue, kind, priority, lane, due)
  redis.call('ZREM', Q .. 'r:' .. lane, id)
  redis.call('ZADD', Q .. 'due', text(due), id)
  note(id, queue, kind, priority, lane)
end
-- Nothing waits: nobody is owed anything.
local function tidy(queue)
  if redis.call('EXISTS', Q .. 'w:' .. queue) == 0 then redis.call('DEL', Q .. 't:' .. queue) end
end
-- Take it out, wherever it waits.
local function drop(id)
  local queue, _, _, lane = about(id)
  if not queue then return false end
  redis.call('HDEL', Q .. 'of', id)
  if redis.call('ZREM', Q .. 'due', id) == 1 then return true end
  if redis.call('ZREM', Q .. 'w:' .. queue, id) == 1 then
    count(lane, -1)
    tidy(queue)
  elseif redis.call('LREM', Q .. 'p:' .. lane, 1, id) == 1 then
    count(lane, -1)
    if redis.call('EXISTS', Q .. 'p:' .. lane) == 0 then redis.call('SREM', Q .. 'parked', lane) end
  end
  return true
end
-- Let one job wait on its queue again that was parked because its lane had enough running.  Its queue, or nil.
local function unpark(lane, cap)
  local running = Q .. 'r:' .. lane
  redis.call('ZREMRANGEBYSCORE', running, '-inf', text(now))
  if cap > 0 and redis.call('ZCARD', running) >= cap then return nil end
  while true do
    local id = redis.call('LPOP', Q .. 'p:' .. lane)
    if redis.call('EXISTS', Q .. 'p:' .. lane) == 0 then redis.call('SREM', Q .. 'parked', lane) end
    if not id then return nil end
    local queue, kind, priority = about(id)
    if queue then
      count(lane, -1)
      put(id, queue, kind, priority, lane, true)
      return queue
    end
  end
end
-- The best waiting job: id, kind, priority, lane; nil for none.  `cap`: how many jobs of a lane may run (0: any number;
-- the lanes of the public and of the service have none); `until_`: when this one will have ended for certain.
local function take(queue, cap, until_)
  local waiting, times = Q .. 'w:' .. queue, Q .. 't:' .. queue
  for _ = 1, 1000 do
    local popped = redis.call('ZPOPMIN', waiting)
    if not popped[1] then break end
    local id = popped[1]
    local of, kind, priority, lane = about(id)
    if of then
      local at = tonumber(popped[2]) - (9 - priority) * BAND
      local field = 'v' .. text(9 - priority)
      if at > tonumber(redis.call('HGET', times, field) or 0) then redis.call('HSET', times, field, text(at)) end
      local running, capped = Q .. 'r:' .. lane, cap > 0 and lane ~= '' and lane ~= '*'
      if capped then redis.call('ZREMRANGEBYSCORE', running, '-inf', text(now)) end
      if capped and redis.call('ZCARD', running) >= cap then
        redis.call('RPUSH', Q .. 'p:' .. lane, id)
        redis.call('SADD', Q .. 'parked', lane)
      else
        redis.call('HDEL', Q .. 'of', id)
        count(lane, -1)
        if capped then redis.call('ZADD', running, text(until_), id) redis.call('PEXPIRE', running, text(until_ - now + 1000)) end
        tidy(queue)
        return id, kind, priority, lane
      end
    end
  end
  tidy(queue)
  return nil
end
-- A job of this lane does not run any more.  The queue of another that may run now, or nil.
local function release(id, lane)
  if redis.call('ZREM', Q .. 'r:' .. lane, id) == 0 then return nil end
  return unpark(lane, 0)
end
-- How an attempt at a computation went, and when, among its last ones.
local function remember(job, outcome, detail, most)
  local was = redis.call('HMGET', job, 'history', 'fence', 'started_at', 'worker')
  local history = was[1] and cjson.decode(was[1]) or {}
  history[#history + 1] = {attempt = tonumber(was[2]), started_at = tonumber(was[3]), ended_at = now, worker = was[4],
    outcome = outcome, detail = detail or cjson.null}
  while #history > most do table.remove(history, 1) end
  redis.call('HSET', job, 'history', cjson.encode(history))
end
local function length(queue) return redis.call('ZCARD', Q .. 'w:' .. queue) end
-- Jobs taken from a queue in a second, 0 while nobody knows.
local function rate(queue)
  local seen = redis.call('HMGET', Q .. 's:' .. queue, 'n', 'since', 'rate')
  if not seen[2] then return 0 end
  local passed = now - tonumber(seen[2])
  local old = tonumber(seen[3] or 0)
  if passed < 1000 then return old end
  local fresh = tonumber(seen[1]) * 1000 / passed
  if old == 0 then return fresh end
  local weight = math.min(1, passed / 10000)
  return old * (1 - weight) + fresh * weight
end
local function taken(queue)
  local stats = Q .. 's:' .. queue
  local since = redis.call('HGET', stats, 'since')
  if not since or now - tonumber(since) > 10000 then
    redis.call('HSET', stats, 'rate', string.format('%.3f', rate(queue)), 'n', 0, 'since', text(now))
  end
  tally('taken')
  redis.call('HINCRBY', stats, 'n', 1)
  redis.call('HSET', stats, 'at', text(now))
  redis.call('PEXPIRE', stats, STATS_TTL)
end
