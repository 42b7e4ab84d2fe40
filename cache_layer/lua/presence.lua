-- Who is there on a topic.
-- KEYS 1 who is there
-- ARGV 1 "1": all of them, else only how many
-- Returns {clients, users, {client, info, ...}}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local clients, users, seen, out = 0, 0, {}, {}
local found = redis.call('HGETALL', KEYS[1])
for i = 1, #found, 2 do
  local ends, length, rest = string.match(found[i + 1], '^(%d+):(%d+):(.*)$')
  if tonumber(ends) > now then
    local user = string.sub(rest, 1, tonumber(length))
    clients = clients + 1
    if not seen[user] then
      seen[user] = true
      users = users + 1
    end
    if ARGV[1] == '1' then
      out[#out + 1] = found[i]
      out[#out + 1] = string.sub(rest, tonumber(length) + 1)
    end
  end
end
return {clients, users, out}
