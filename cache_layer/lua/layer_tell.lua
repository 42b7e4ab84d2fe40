-- A message to a group of the channel layer.
-- KEYS 1 channels of the group that no process subscribes it for (layer_join.lua)
-- ARGV 1 channel of the group  2 message  3 seconds a membership lasts
-- Returns those channels: the caller sends to each.
redis.call('PUBLISH', ARGV[1], ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1] - ARGV[3])
return redis.call('ZRANGE', KEYS[1], 0, -1)
