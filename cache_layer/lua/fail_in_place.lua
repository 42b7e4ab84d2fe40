-- A value computed in this very process failed: remember it briefly, tell everyone, let go of the key.
-- KEYS 1 lease  2 failure
-- ARGV 1 token  2 problem JSON  3 failure ttl ms  4 value channel
-- Returns 1, or 0 when the lease was no longer ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('PUBLISH', ARGV[4], 'E' .. ARGV[2])
return 1
