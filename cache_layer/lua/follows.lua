-- Whether a user follows one of these topics, in whichever process.
-- KEYS 1 what the user follows: topic:process, by when it counts no more
-- ARGV digests of topics
-- Returns 1 or 0.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local asked = {}
for _, topic in ipairs(ARGV) do asked[topic] = true end
for _, one in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  if asked[string.match(one, '^[^:]*')] then return 1 end
end
return 0
