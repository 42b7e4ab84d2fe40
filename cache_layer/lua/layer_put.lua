-- A message for whichever process reads a channel of the channel layer: at the end of its line, if there is room.
-- KEYS 1 the line
-- ARGV 1 message  2 capacity  3 life of a message, ms  4 channel on which readers are rung for  5 anything: in front,
--      an item that was taken and not read, as `layer_take` gave it, however full the line is
-- Returns 0 when it is full.  Items are <ms at which it expires by the store's clock, 15 digits><message>.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
while true do
  local first = redis.call('LINDEX', KEYS[1], 0)
  if not first or tonumber(string.sub(first, 1, 15)) > now then break end
  redis.call('LPOP', KEYS[1])
end
if ARGV[5] then
  redis.call('LPUSH', KEYS[1], ARGV[1])
else
  if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
  redis.call('RPUSH', KEYS[1], string.format('%015.0f', now + ARGV[3]) .. ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], '')
return 1
