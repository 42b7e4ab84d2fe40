-- Keep a lease that is ours for a while longer, or let it go.
-- KEYS 1 lease
-- ARGV 1 token  2 ms from now, 0: let it go
-- Returns 1, or 0 when it was not ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('UNLINK', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
