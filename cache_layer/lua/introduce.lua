-- A connection says which server it has reached.  Data of another run (a snapshot, a replica that lagged) may be older
-- than what was served before: then every value of the namespace is outdated, and all epochs are over.
-- KEYS 1 run  2 the namespace's own tag
-- ARGV 1 id of the server's run  2 a fresh version for the tag  3 tag ttl ms  4 run ttl ms
-- Returns 1 when the data was another run's, or there was none.
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
