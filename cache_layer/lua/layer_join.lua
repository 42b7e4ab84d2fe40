-- Into a group of the channel layer: a channel that no process subscribes the group for.
-- KEYS 1 such channels of the group, by when they joined by the store's clock, in seconds
-- ARGV 1 channel  2 seconds it stays
local now = redis.call('TIME')[1]
redis.call('ZADD', KEYS[1], now, ARGV[1])
return redis.call('EXPIRE', KEYS[1], ARGV[2])
