-- Plain values under keys, all of one generation: clearing takes the generation away, and every value is gone.
-- KEYS 1 generation  2.. values, each followed by its lease (incr, drop: one value alone)
-- ARGV 1 what to do  2 eight random bytes: the generation, if there is none  3 life of the value, ms ("" for ever,
--      0 not at all)  4.. per operation, see below
-- A value is: generation 8 | "MPD1" | kind 1 | payload length, 10 digits | checksum 8 | payload  (kv.py).
local HEAD, WEEK = 31, 604800000
local what, life = ARGV[1], tonumber(ARGV[3])
local generation = redis.pcall('GET', KEYS[1])
if type(generation) ~= 'string' or #generation ~= 8 then generation = false end

-- The kind of the whole value of this generation under `key`; false for none, and for foreign or shortened bytes.
local function kind(key)
  local head = redis.pcall('GETRANGE', key, 0, HEAD - 1)
  if not generation or type(head) ~= 'string' or head:sub(1, 12) ~= generation .. 'MPD1' then return false end
  return tonumber(head:sub(14, 23)) == redis.call('STRLEN', key) - HEAD and head:sub(13, 13)
end

-- Sees that there is a generation, and that it outlives what is written under it: a lost one loses all values.
-- Rarely prolonged, because each time is told to every process that tracks it.
local function present()
  if not generation then
    generation = ARGV[2]
    redis.call('SET', KEYS[1], generation, 'PX', WEEK)
  end
  local left = redis.call('PTTL', KEYS[1])
  if left == -1 then return end
  if not life then redis.call('PERSIST', KEYS[1])
  elseif left < math.max(life, WEEK / 2) then redis.call('PEXPIRE', KEYS[1], 2 * math.max(life, WEEK)) end
end

local function put(key, body)
  if life == 0 then redis.call('UNLINK', key) return end
  present()
  if life then redis.call('SET', key, generation .. body, 'PX', ARGV[3])
  else redis.call('SET', key, generation .. body) end
end

-- Whoever computes the value now may not store what it read before: a newer write counts, even once it has expired.
local function revoke(lease) redis.call('SET', lease, 'revoked', 'XX', 'KEEPTTL') end

-- 4.. bodies, one for each value
if what == 'set' then
  for i = 2, #KEYS, 2 do
    put(KEYS[i], ARGV[3 + i / 2])
    revoke(KEYS[i + 1])
  end
  return 1
end

-- 4 body.  Returns whether it was stored.
if what == 'add' then
  if kind(KEYS[2]) then return 0 end
  put(KEYS[2], ARGV[4])
  revoke(KEYS[3])
  return 1
end

-- Returns whether there was something to touch.
if what == 'touch' then
  if life == 0 then revoke(KEYS[3]) end
  if not kind(KEYS[2]) then return 0 end
  if life == 0 then return redis.call('UNLINK', KEYS[2]) end
  present()
  if life then redis.call('PEXPIRE', KEYS[2], ARGV[3]) else redis.call('PERSIST', KEYS[2]) end
  return 1
end

-- Returns how many there were.
if what == 'delete' then
  local found = 0
  for i = 2, #KEYS, 2 do
    if kind(KEYS[i]) then found = found + 1 end
    redis.call('UNLINK', KEYS[i])
    revoke(KEYS[i + 1])
  end
  return found
end

-- 4 delta.  Returns {'missing'}, {'other'} for what is no integer, {'overflow'}, or {'done', digits}.
if what == 'incr' then
  local found = kind(KEYS[2])
  if not found then return {'missing'} end
  if found ~= 'i' then return {'other'} end
  local before = redis.call('GET', KEYS[2])
  redis.call('SET', KEYS[2], before:sub(HEAD + 1), 'KEEPTTL')
  if type(redis.pcall('INCRBY', KEYS[2], ARGV[4])) == 'table' then
    redis.call('SET', KEYS[2], before, 'KEEPTTL')
    return {'overflow'}
  end
  local digits = redis.call('GET', KEYS[2])  -- not INCRBY's reply: a number here is a double
  local body = generation .. 'MPD1i' .. string.format('%010d', #digits) .. '00000000' .. digits
  redis.call('SET', KEYS[2], body, 'KEEPTTL')
  return {'done', digits}
end

-- 4 token  5 life of the lease, ms.  Returns {'there'}, {'busy'}, or {'granted', generation}.
if what == 'acquire' then
  if kind(KEYS[2]) then return {'there'} end
  local held = redis.pcall('GET', KEYS[3])
  if type(held) == 'string' and held ~= 'revoked' then return {'busy'} end
  present()
  redis.call('SET', KEYS[3], ARGV[4] .. generation, 'PX', ARGV[5])
  return {'granted', generation}
end

-- 4 token  5 generation at its grant  6 body.  Returns {'there', value} of a newer write, {'stored'}, or {'revoked'}:
-- written, deleted or cleared since, or somebody else computes it now.  A lease that has merely expired forbids nothing.
if what == 'fill' then
  local held = redis.pcall('GET', KEYS[3])
  local mine = held == ARGV[4] .. ARGV[5]
  if mine then redis.call('UNLINK', KEYS[3]) end
  if kind(KEYS[2]) then return {'there', redis.call('GET', KEYS[2])} end
  if generation ~= ARGV[5] or type(held) == 'string' and not mine then return {'revoked'} end
  put(KEYS[2], ARGV[6])
  return {'stored'}
end

-- 4 token  5 generation at its grant
if what == 'release' then
  if redis.pcall('GET', KEYS[3]) == ARGV[4] .. ARGV[5] then redis.call('UNLINK', KEYS[3]) end
  return 1
end

-- 4 SHA-1 of bytes that were no value; unless somebody has replaced them since, they go.
if what == 'drop' then
  local found = redis.pcall('GET', KEYS[2])
  if type(found) == 'string' and redis.sha1hex(found) == ARGV[4] then redis.call('UNLINK', KEYS[2]) end
  return 1
end

return redis.error_reply('unknown operation')
