-- May one more job of this lane wait on this queue?
-- ARGV 1 prefix of the queues  2 queue  3 lane  4 queue limit  5 jobs of a lane that may wait (0: any number)
-- Returns {what, wait}.  what: yes, full, crowded.  wait: ms after which it is worth asking again, 0: nobody knows.
local Q = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
--# _queue.lua
local waiting, speed = length(ARGV[2]), rate(ARGV[2])
if waiting >= tonumber(ARGV[4]) then return {'full', speed > 0 and waiting * 1000 / speed or 0} end
if ARGV[5] ~= '0' and tonumber(redis.call('HGET', Q .. 'lanes', ARGV[3]) or 0) >= tonumber(ARGV[5]) then
  return {'crowded', speed > 0 and 1000 / speed or 0}
end
return {'yes', 0}
