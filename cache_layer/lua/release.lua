-- An action does not wait or run any more, or not here: nobody holds it, and another of its lane may run.
-- KEYS 1 what its worker holds  2 its progress
-- ARGV 1 prefix of the queues  2 job id  3 lane  4 job channel  5 "1": its progress is of interest no more
-- Returns the queue that may go on, "" for none.
local Q = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('HDEL', Q .. 'cancels', ARGV[2])
drop(ARGV[2])
if ARGV[5] == '1' then redis.call('UNLINK', KEYS[2]) end
local going_on = release(ARGV[2], ARGV[3])
redis.call('PUBLISH', ARGV[4], 'C')
return going_on or ''
