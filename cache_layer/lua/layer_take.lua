-- The oldest message of a channel of the channel layer that has not expired by the store's clock.
-- KEYS 1 the line
-- Returns {item or false, how many had expired}; see layer_put.lua.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local expired = 0
while true do
  local first = redis.call('LPOP', KEYS[1])
  if not first or tonumber(string.sub(first, 1, 15)) > now then return {first, expired} end
  expired = expired + 1
end
