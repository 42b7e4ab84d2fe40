-- A message for a channel of one process of the channel layer.
-- KEYS 1 set while that channel is full
-- ARGV 1 channel the process listens on  2 message
-- Returns -1 when it is full, else how many listen.
if redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
return redis.call('PUBLISH', ARGV[1], ARGV[2])
