-- An attempt holds its job no longer: a loss was seen after, or it is not its job any more.  What has happened to the same
-- job since is something else, and stays.
-- KEYS 1 what was lost  2 what the worker of the attempt holds
-- ARGV 1 job id  2 worker  3 number of the attempt  4 process
local function same(raw)
  local found = cjson.decode(raw)
  return found.fence == tonumber(ARGV[3]) and found.pid == tonumber(ARGV[4])
    and (found.worker == nil or found.worker == ARGV[2])
end
for _, key in ipairs(KEYS) do
  local raw = redis.call('HGET', key, ARGV[1])
  if raw and same(raw) then redis.call('HDEL', key, ARGV[1]) end
end
return 1
