//! The gate's state in Redis and everything that changes it, each in one script.
//!
//! Four keys a coupon. KEYS[1], a hash: what is known of the coupon. KEYS[2], a hash: by member, how many coupons count against his
//! share. KEYS[3], a sorted set: the places held, by their end. KEYS[4], a hash: news that came while the gate was being built. The last
//! three carry a mark, so that one that was evicted alone is noticed and everything is built anew.

use kit::redis::Script;
use std::sync::LazyLock;

/// What several scripts share. A place is named by its member and a count; the mark is a name no member has.
const COMMON: &str = r"
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
-- Another one after a restart, while it is a copy, and after a copy took over: then what is kept may be older than what was told.
local function server()
  local copies = redis.call('INFO', 'replication')
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. string.match(copies, 'role:(%a+)')
    .. string.match(copies, 'master_replid:(%x+)')
end
local function whole(number) return string.format('%.0f', number) end
local function clear() redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4]) end
-- From ARGV[first]: version, limit, issued, opens, closes, share, queue, gone.
local function take_doors(args, first)
  redis.call('HSET', KEYS[1], 'version', args[first], 'limit', args[first + 1], 'issued', args[first + 2], 'opens', args[first + 3],
    'closes', args[first + 4], 'share', args[first + 5], 'queue', args[first + 6], 'gone', args[first + 7])
end
-- News that the state does not contain yet. Versions follow each other without hole: as many were taken as there are, or one is missing.
local function take_news(args, now)
  local known = redis.call('HMGET', KEYS[1], 'version', 'base', 'seen')
  local version, base = tonumber(args[1]), tonumber(known[2])
  if version <= base then return end
  for i = 10, 9 + 2 * tonumber(args[9]), 2 do
    if redis.call('HINCRBY', KEYS[2], args[i], args[i + 1]) <= 0 then redis.call('HDEL', KEYS[2], args[i]) end
  end
  local newest = math.max(version, tonumber(known[1]))
  if version > tonumber(known[1]) then take_doors(args, 1) end
  local seen = tonumber(known[3]) + 1
  redis.call('HSET', KEYS[1], 'seen', whole(seen))
  if seen == newest - base then redis.call('HDEL', KEYS[1], 'hole_since')
  else redis.call('HSETNX', KEYS[1], 'hole_since', whole(now)) end
end
";

/// ARGV: member, the caller's time, a name for a new gate, and in microseconds: the life of a place, the lease of a builder, the barrier,
/// the longest wait for missing news; last, 1 if he is to have a place whatever is known. Answers: what, the gate's name, the count of the place held (0: none), microseconds to the barrier.
pub static ADMIT: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local member, now, at = ARGV[1], tonumber(ARGV[2]), clock()
local fields = {'era', 'state', 'limit', 'issued', 'opens', 'closes', 'share', 'queue', 'gone', 'blind', 'lease', 'since', 'hole_since', 'server'}
local known = redis.call('HMGET', KEYS[1], unpack(fields))
local s = {}
for i, name in ipairs(fields) do s[name] = known[i] end
local answer, insists, server = 'ask', ARGV[8] == '1', server()

-- Nothing is known; or part of it was evicted; or a place was never settled and some news never came: then a process has died with what
-- it knew, and only the database knows more.
local lapsed = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', whole(at))
if s.era and s.server ~= server then s.era = false end
if s.era and s.state == 'ready' and (lapsed > 0 or redis.call('HEXISTS', KEYS[2], '') == 0 or not redis.call('ZSCORE', KEYS[3], '')
    or (s.hole_since and tonumber(s.hole_since) + tonumber(ARGV[7]) <= at)) then
  s.era = false
end
if not s.era then
  clear()
  s = {era = ARGV[3], state = 'building', since = at, lease = 0}
  redis.call('HSET', KEYS[1], 'era', s.era, 'state', s.state, 'since', whole(at), 'server', server)
  redis.call('ZADD', KEYS[3], '+inf', '')
  redis.call('HSET', KEYS[4], '', '')
end

local taken, share = 0, 16
if s.state == 'building' then
  if tonumber(s.lease) <= at then
    -- The first who asks builds; the next one, if the builder has died.
    redis.call('HSET', KEYS[1], 'builder', ARGV[3], 'lease', whole(at + tonumber(ARGV[6]) + tonumber(ARGV[5])))
    redis.call('DEL', KEYS[2])
    for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], math.ceil((tonumber(ARGV[6]) + 2 * tonumber(ARGV[5])) / 1000)) end
    answer = 'build'
  end
elseif not insists then
  taken, share = tonumber(redis.call('HGET', KEYS[2], member) or '0'), tonumber(s.share)
  local closed = now >= tonumber(s.closes)
  if s.gone == '1' then return {'gone', s.era, 0, 0} end
  if taken >= share then return {'already', s.era, 0, 0} end
  if now < tonumber(s.opens) then return {'not-open', s.era, 0, 0} end
  -- Who has his share already would be told so: when that is not known, only the database can refuse.
  if closed then return {s.blind == '1' and 'ask' or 'closed', s.era, 0, 0} end
  answer = s.queue == '1' and 'ask' or 'admitted'
end

local nth = 0
-- More than he may have are not offered to others either, for the moment.
for i = taken + 1, insists and 4096 or math.min(share, taken + 16) do
  if not redis.call('ZSCORE', KEYS[3], member .. ':' .. i) then nth = i break end
end
-- All he may have are being settled for him already.
if nth == 0 then return {'ask', s.era, 0, 0} end
local limit = tonumber(s.limit or '-1')
if answer == 'admitted' and limit >= 0 then
  if tonumber(s.issued) >= limit then
    if s.blind ~= '1' then return {'sold-out', s.era, 0, 0} end
    answer = 'ask'
  elseif tonumber(s.issued) + redis.call('ZCARD', KEYS[3]) - 1 >= limit then
    return {'full', s.era, 0, 0}
  end
end
-- Also who is only sent to the database holds a place: he may get a unit there.
redis.call('ZADD', KEYS[3], whole(at + tonumber(ARGV[4])), member .. ':' .. nth)
return {answer, s.era, nth, math.max(0, tonumber(s.since or at) + tonumber(ARGV[6]) - at)}",
    )
});

/// ARGV: the eight of the doors, the number of changed shares and these as (member, change), then the settled places as (gate, name).
/// The places end and the issued coupons count in one step, so that no unit is offered twice between.
pub static NEWS: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local known = redis.call('HMGET', KEYS[1], 'era', 'state')
if not known[1] then return 0 end
for i = 10 + 2 * tonumber(ARGV[9]), #ARGV, 2 do
  if ARGV[i] == known[1] then redis.call('ZREM', KEYS[3], ARGV[i + 1]) end
end
if known[2] == 'building' then redis.call('HSET', KEYS[4], ARGV[1], cmsgpack.pack(ARGV))
else take_news(ARGV, clock()) end
return 1",
    )
});

/// ARGV: the builder, the microseconds of its lease, then (member, count).
pub static FILL: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
if redis.call('HGET', KEYS[1], 'builder') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'lease', whole(clock() + tonumber(ARGV[2])))
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], math.ceil(2 * tonumber(ARGV[2]) / 1000)) end
return 1",
    )
});

/// ARGV: the eight of the doors as they were read, the builder, whether the members are unknown, the milliseconds to keep it all.
pub static OPEN: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local known = redis.call('HMGET', KEYS[1], 'builder', 'state')
if known[1] ~= ARGV[9] or known[2] ~= 'building' then return 0 end
if redis.call('HEXISTS', KEYS[4], '') == 0 or not redis.call('ZSCORE', KEYS[3], '') then
  clear()
  return 0
end
local now = clock()
take_doors(ARGV, 1)
redis.call('HSET', KEYS[1], 'state', 'ready', 'base', ARGV[1], 'seen', '0', 'blind', ARGV[10])
redis.call('HDEL', KEYS[1], 'builder', 'lease', 'since')
redis.call('HSET', KEYS[2], '', '0')
for _, packed in ipairs(redis.call('HVALS', KEYS[4])) do
  if packed ~= '' then take_news(cmsgpack.unpack(packed), now) end
end
redis.call('DEL', KEYS[4])
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[11]) end
return 1",
    )
});

/// ARGV: the eight of the doors as they were when these claims were refused, then their places as (gate, name). What was committed before
/// counts from here on, if its own news are late: a place must not be offered again before the unit is counted that its claim was refused for.
pub static REFUSED: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local known = redis.call('HMGET', KEYS[1], 'era', 'state', 'version')
if known[2] == 'ready' and tonumber(ARGV[1]) > tonumber(known[3]) then take_doors(ARGV, 1) end
for i = 9, #ARGV, 2 do
  if ARGV[i] == known[1] then redis.call('ZREM', KEYS[3], ARGV[i + 1]) end
end
return 1",
    )
});

/// ARGV: the gate's name, the place's.
pub static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    script("if redis.call('HGET', KEYS[1], 'era') == ARGV[1] then return redis.call('ZREM', KEYS[3], ARGV[2]) end return 0")
});

/// Forgets everything, so that the next who asks builds it anew. ARGV: the builder whose gate it must be, or nothing.
pub static CLEAR: LazyLock<Script> =
    LazyLock::new(|| script("if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'builder') ~= ARGV[1] then return 0 end clear() return 1"));

/// Units on offer: -1 without limit, -2 when nothing is known, or what is known would not be believed by the next who asks. While
/// somebody waits, no unit is on offer to newcomers.
pub static ON_OFFER: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local s = redis.call('HMGET', KEYS[1], 'state', 'limit', 'issued', 'queue', 'gone', 'server')
if s[1] ~= 'ready' or s[6] ~= server() or redis.call('HEXISTS', KEYS[2], '') == 0 or not redis.call('ZSCORE', KEYS[3], '')
    or redis.call('ZCOUNT', KEYS[3], '-inf', whole(clock())) > 0 then
  return -2
end
if s[4] == '1' or s[5] == '1' then return 0 end
if tonumber(s[2]) < 0 then return -1 end
return math.max(0, tonumber(s[2]) - tonumber(s[3]) - redis.call('ZCARD', KEYS[3]) + 1)",
    )
});

fn script(text: &str) -> Script {
    Script::new(&format!("{COMMON}{text}"))
}
