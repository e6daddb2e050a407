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
-- Versions follow each other without hole: as many news were taken as there are versions, or some are missing.
local function mind_holes(now)
  local known = redis.call('HMGET', KEYS[1], 'version', 'base', 'seen')
  if tonumber(known[3]) == tonumber(known[1]) - tonumber(known[2]) then redis.call('HDEL', KEYS[1], 'hole_since')
  else redis.call('HSETNX', KEYS[1], 'hole_since', whole(now)) end
end
-- Whether what is known since this time is to be believed. A time to come was told by a clock that was put back since.
local function is_within(since, time, now) return since <= now and now < since + time end
-- News that the state does not contain yet.
local function take_news(args, now)
  local known = redis.call('HMGET', KEYS[1], 'version', 'base', 'seen')
  local version, base = tonumber(args[1]), tonumber(known[2])
  if version <= base then return end
  for i = 10, 9 + 2 * tonumber(args[9]), 2 do
    if redis.call('HINCRBY', KEYS[2], args[i], args[i + 1]) <= 0 then redis.call('HDEL', KEYS[2], args[i]) end
  end
  if version > tonumber(known[1]) then take_doors(args, 1) end
  redis.call('HSET', KEYS[1], 'seen', whole(tonumber(known[3]) + 1))
  mind_holes(now)
end
";

/// ARGV: member, the caller's time, a name for a new gate, and in microseconds: the life of a place, the lease of a builder, the barrier,
/// the longest wait for missing news; 1 if he is to have a place whatever is known; last, how many microseconds what is known is believed.
/// Answers: what, the gate's name, the count of the place held (0: none), microseconds to the barrier; and if the caller is to look into
/// the database, the time now and the version that is known (or 0, 0).
pub static ADMIT: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local member, now, at, believed = ARGV[1], tonumber(ARGV[2]), clock(), tonumber(ARGV[9])
local fields = {'era', 'state', 'limit', 'issued', 'opens', 'closes', 'share', 'queue', 'gone', 'blind', 'lease', 'since', 'hole_since', 'server',
  'confirmed', 'look', 'version'}
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

local look, version = 0, 0
local function say(what, nth) return {what, s.era, nth, math.max(0, tonumber(s.since or at) + tonumber(ARGV[6]) - at), look, version} end

-- Without all news nobody knows who has his share already.
local missed = s.hole_since and not is_within(tonumber(s.hole_since), believed / 2, at)
local blind = s.blind == '1' or missed
local taken, share, most = 0, 16, 16
if s.state == 'building' then
  if tonumber(s.lease) <= at then
    -- The first who asks builds; the next one, if the builder has died.
    redis.call('HSET', KEYS[1], 'builder', ARGV[3], 'lease', whole(at + tonumber(ARGV[6]) + tonumber(ARGV[5])))
    redis.call('DEL', KEYS[2])
    for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], math.ceil((tonumber(ARGV[6]) + 2 * tonumber(ARGV[5])) / 1000)) end
    answer = 'build'
  end
else
  -- In the second half of the time for which it is believed one who asks looks; the next one, if he does not come back.
  if not is_within(tonumber(s.confirmed or '0'), believed / 2, at) and not is_within(tonumber(s.look or '0'), believed / 2, at) then
    redis.call('HSET', KEYS[1], 'look', whole(at))
    look, version = at, tonumber(s.version)
  end
  taken, share = tonumber(redis.call('HGET', KEYS[2], member) or '0'), tonumber(s.share)
  if insists or not is_within(tonumber(s.confirmed or '0'), believed, at) then
    -- Who looks asks again after it.
    if look > 0 and not insists then return say('look', 0) end
    -- The database decides, whatever he has. More than he may have are not offered to others either, for the moment.
    most = taken + (insists and 4096 or 16)
  else
    local closed, full_share = now >= tonumber(s.closes), taken >= share
    if s.gone == '1' then return say('gone', 0) end
    if full_share and not missed then return say('already', 0) end
    if now < tonumber(s.opens) then return say('not-open', 0) end
    -- Who has his share already would be told so: when that is not known, only the database can refuse.
    if closed then return say(blind and 'ask' or 'closed', 0) end
    -- He may have given one back.
    most = full_share and taken + 16 or math.min(share, taken + 16)
    answer = (s.queue == '1' or full_share) and 'ask' or 'admitted'
  end
end

local nth = 0
for i = taken + 1, most do
  if not redis.call('ZSCORE', KEYS[3], member .. ':' .. i) then nth = i break end
end
-- All he may have are being settled for him already.
if nth == 0 then return say('ask', 0) end
local limit = tonumber(s.limit or '-1')
if answer == 'admitted' and limit >= 0 then
  if tonumber(s.issued) >= limit then
    if not blind then return say('sold-out', 0) end
    answer = 'ask'
  elseif tonumber(s.issued) + redis.call('ZCARD', KEYS[3]) - 1 >= limit then
    return say('full', 0)
  end
end
-- Also who is only sent to the database holds a place: he may get a unit there.
redis.call('ZADD', KEYS[3], whole(at + tonumber(ARGV[4])), member .. ':' .. nth)
return say(answer, nth)",
    )
});

/// What a look into the database found. ARGV: the eight of the doors, the gate's name, the time at which the look began and the version
/// that was known then. What is newer than was told counts from here on; its own news may be on their way, or will be missed. A place
/// whose claim is in it already is held until they come, so that for a moment fewer units are on offer than there are.
pub static CONFIRM: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local s = redis.call('HMGET', KEYS[1], 'era', 'state', 'version', 'confirmed')
if s[1] ~= ARGV[9] or s[2] ~= 'ready' then return 0 end
local found, now = tonumber(ARGV[1]), clock()
-- The database was restored from a backup, or a copy took over that lacked something: what was told did not happen.
if found < tonumber(ARGV[11]) then
  clear()
  return 0
end
if found > tonumber(s[3]) then take_doors(ARGV, 1) end
mind_holes(now)
local confirmed = tonumber(s[4] or '0')
if tonumber(ARGV[10]) > confirmed or confirmed > now then redis.call('HSET', KEYS[1], 'confirmed', ARGV[10]) end
return 1",
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

/// ARGV: the builder, the microseconds of its lease, then (member, count). Answers the time, or 0: another one builds.
pub static FILL: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
if redis.call('HGET', KEYS[1], 'builder') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
local now = clock()
redis.call('HSET', KEYS[1], 'lease', whole(now + tonumber(ARGV[2])))
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], math.ceil(2 * tonumber(ARGV[2]) / 1000)) end
return now",
    )
});

/// ARGV: the eight of the doors as they were read, the builder, whether the members are unknown, the milliseconds to keep it all, the time
/// at which the reading began.
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
redis.call('HSET', KEYS[1], 'state', 'ready', 'base', ARGV[1], 'seen', '0', 'blind', ARGV[10], 'confirmed', ARGV[12])
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
if known[2] == 'ready' and tonumber(ARGV[1]) > tonumber(known[3]) then
  take_doors(ARGV, 1)
  mind_holes(clock())
end
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
/// somebody waits, no unit is on offer to newcomers. ARGV: how many microseconds what is known is believed.
pub static ON_OFFER: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local s, now = redis.call('HMGET', KEYS[1], 'state', 'limit', 'issued', 'queue', 'gone', 'server', 'confirmed'), clock()
if s[1] ~= 'ready' or s[6] ~= server() or not is_within(tonumber(s[7] or '0'), tonumber(ARGV[1]), now) or redis.call('HEXISTS', KEYS[2], '') == 0 or not redis.call('ZSCORE', KEYS[3], '')
    or redis.call('ZCOUNT', KEYS[3], '-inf', whole(now)) > 0 then
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
