//! The gate's state in Redis. Each change of it is one script.
//!
//! Four keys per coupon. KEYS[1], a hash: the coupon's limits and the gate's times. KEYS[2], a hash: by member, the number of coupons that
//! count against the limit per member. KEYS[3], a sorted set: the held slots, by their end. KEYS[4], a hash: updates that arrived during a
//! rebuild. The last three contain a marker entry. If Redis evicts one of them, its marker is missing, and the gate is rebuilt.
//!
//! Keys and fields keep their names: during a rolling update processes of two releases use the same gate.
//!
//! Fields of KEYS[1]: `era` names the gate, and `state` is `building` or `ready`. `version`, `limit`, `issued`, `opens`, `closes`, `share`,
//! `queue`, `gone` are the [limits](super::ClaimLimits). `base` is the version that the builder read, and `seen` counts the updates since
//! then. `hole_since` is the start of a gap in the versions. `confirmed` is the time of the last refresh, and `look` that of the last
//! request for one. `blind`: the members are too many, so their counts are unknown. `builder`, `lease`, `since` belong to the rebuild.
//! `server` is the Redis server that the gate was built on.

use kit::redis::Script;
use std::sync::LazyLock;

/// Functions of several scripts. A slot is named by its member and a count; the marker's name belongs to no member.
const COMMON: &str = r"
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
-- Differs after a restart, on a replica, and after a failover: the state may then be older than the updates that were sent.
local function server()
  local copies = redis.call('INFO', 'replication')
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. string.match(copies, 'role:(%a+)')
    .. string.match(copies, 'master_replid:(%x+)')
end
local function whole(number) return string.format('%.0f', number) end
local function clear() redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4]) end
-- From args[first]: version, limit, issued, opens, closes, share, queue, gone.
local function write_limits(args, first)
  redis.call('HSET', KEYS[1], 'version', args[first], 'limit', args[first + 1], 'issued', args[first + 2], 'opens', args[first + 3],
    'closes', args[first + 4], 'share', args[first + 5], 'queue', args[first + 6], 'gone', args[first + 7])
end
-- Versions have no gaps. If fewer updates than versions arrived, some are missing.
local function track_gap(now)
  local known = redis.call('HMGET', KEYS[1], 'version', 'base', 'seen')
  if tonumber(known[3]) == tonumber(known[1]) - tonumber(known[2]) then redis.call('HDEL', KEYS[1], 'hole_since')
  else redis.call('HSETNX', KEYS[1], 'hole_since', whole(now)) end
end
-- True: the state of this time is younger than the limit. A time in the future comes from a clock that was set back, and counts as old.
local function is_within(since, limit, now) return since <= now and now < since + limit end
-- Applies an update that the state does not contain yet.
local function apply_update(args, now)
  local known = redis.call('HMGET', KEYS[1], 'version', 'base', 'seen')
  local version, base = tonumber(args[1]), tonumber(known[2])
  if version <= base then return end
  for i = 10, 9 + 2 * tonumber(args[9]), 2 do
    if redis.call('HINCRBY', KEYS[2], args[i], args[i + 1]) <= 0 then redis.call('HDEL', KEYS[2], args[i]) end
  end
  if version > tonumber(known[1]) then write_limits(args, 1) end
  redis.call('HSET', KEYS[1], 'seen', whole(tonumber(known[3]) + 1))
  track_gap(now)
end
";

/// Admits a claim, or not.
///
/// ARGV: member, the caller's time, and a name for a new gate. Then in microseconds: lifetime of a slot, lease of a builder, barrier,
/// longest gap. Then 1 to force a slot, and the maximum staleness in microseconds.
///
/// Replies with the verdict, the gate's name, the count of the held slot (0: none), and the microseconds to the barrier. If the caller is
/// to refresh the gate, the time and the gate's version follow, else 0 and 0.
pub static ADMIT: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local member, now, at, max_staleness = ARGV[1], tonumber(ARGV[2]), clock(), tonumber(ARGV[9])
local fields = {'era', 'state', 'limit', 'issued', 'opens', 'closes', 'share', 'queue', 'gone', 'blind', 'lease', 'since', 'hole_since', 'server',
  'confirmed', 'look', 'version'}
local known = redis.call('HMGET', KEYS[1], unpack(fields))
local s = {}
for i, name in ipairs(fields) do s[name] = known[i] end
local verdict, is_forced, server = 'undecided', ARGV[8] == '1', server()

-- The gate is missing or damaged: on another server, with a timed-out slot, without a marker, or with a gap for too long. A timed-out slot
-- or a long gap means that a process has died, and only the database knows its commits.
local timed_out = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', whole(at))
if s.era and s.server ~= server then s.era = false end
if s.era and s.state == 'ready' and (timed_out > 0 or redis.call('HEXISTS', KEYS[2], '') == 0 or not redis.call('ZSCORE', KEYS[3], '')
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

local refresh_at, version = 0, 0
local function reply(verdict, nth)
  return {verdict, s.era, nth, math.max(0, tonumber(s.since or at) + tonumber(ARGV[6]) - at), refresh_at, version}
end

-- After a gap the member counts may be wrong.
local has_gap = s.hole_since and not is_within(tonumber(s.hole_since), max_staleness / 2, at)
local unverified = s.blind == '1' or has_gap
local taken, per_member, last = 0, 16, 16
if s.state == 'building' then
  if tonumber(s.lease) <= at then
    -- The first caller builds. If it dies, the next one does.
    redis.call('HSET', KEYS[1], 'builder', ARGV[3], 'lease', whole(at + tonumber(ARGV[6]) + tonumber(ARGV[5])))
    redis.call('DEL', KEYS[2])
    for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], math.ceil((tonumber(ARGV[6]) + 2 * tonumber(ARGV[5])) / 1000)) end
    verdict = 'build'
  end
else
  -- In the second half of the maximum staleness one caller refreshes the gate. If it does not, another one does.
  if not is_within(tonumber(s.confirmed or '0'), max_staleness / 2, at) and not is_within(tonumber(s.look or '0'), max_staleness / 2, at) then
    redis.call('HSET', KEYS[1], 'look', whole(at))
    refresh_at, version = at, tonumber(s.version)
  end
  taken, per_member = tonumber(redis.call('HGET', KEYS[2], member) or '0'), tonumber(s.share)
  if is_forced or not is_within(tonumber(s.confirmed or '0'), max_staleness, at) then
    -- The caller that refreshes asks again afterwards.
    if refresh_at > 0 and not is_forced then return reply('refresh', 0) end
    -- The database decides, whatever the member has. These slots reduce the units for others meanwhile.
    last = taken + (is_forced and 4096 or 16)
  else
    local closed, has_limit = now >= tonumber(s.closes), taken >= per_member
    if s.gone == '1' then return reply('not-found', 0) end
    if has_limit and not has_gap then return reply('already-issued', 0) end
    if now < tonumber(s.opens) then return reply('not-open', 0) end
    -- An owner would get already-issued here. Without the member counts only the database can refuse.
    if closed then return reply(unverified and 'undecided' or 'closed', 0) end
    -- A member at the limit may have given a coupon back.
    last = has_limit and taken + 16 or math.min(per_member, taken + 16)
    verdict = (s.queue == '1' or has_limit) and 'undecided' or 'admitted'
  end
end

local nth = 0
for i = taken + 1, last do
  if not redis.call('ZSCORE', KEYS[3], member .. ':' .. i) then nth = i break end
end
-- Claims of this member are in progress for all coupons that the member may have.
if nth == 0 then return reply('undecided', 0) end
local limit = tonumber(s.limit or '-1')
if verdict == 'admitted' and limit >= 0 then
  if tonumber(s.issued) >= limit then
    if not unverified then return reply('sold-out', 0) end
    verdict = 'undecided'
  elseif tonumber(s.issued) + redis.call('ZCARD', KEYS[3]) - 1 >= limit then
    return reply('full', 0)
  end
end
-- An undecided claim holds a slot, too, because the database may give it a unit.
redis.call('ZADD', KEYS[3], whole(at + tonumber(ARGV[4])), member .. ':' .. nth)
return reply(verdict, nth)",
    )
});

/// Stores the result of a refresh.
///
/// ARGV: the eight limits, the gate's name, the start of the refresh, and the gate's version at that time. Newer limits count from now on.
/// Their own update may still arrive, or is missing. A slot of a claim that the limits contain already is held until that update
/// arrives. So for a moment fewer units are available than there are.
pub static CONFIRM: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local s = redis.call('HMGET', KEYS[1], 'era', 'state', 'version', 'confirmed')
if s[1] ~= ARGV[9] or s[2] ~= 'ready' then return 0 end
local found, now = tonumber(ARGV[1]), clock()
-- The database lost commits, by a restored backup or a failover. The updates that were sent did not happen.
if found < tonumber(ARGV[11]) then
  clear()
  return 0
end
if found > tonumber(s[3]) then write_limits(ARGV, 1) end
track_gap(now)
local confirmed = tonumber(s[4] or '0')
if tonumber(ARGV[10]) > confirmed or confirmed > now then redis.call('HSET', KEYS[1], 'confirmed', ARGV[10]) end
return 1",
    )
});

/// Applies the update of a commit.
///
/// ARGV: the eight limits, the number of changed member counts, these as (member, change), and the settled slots as (gate, name). The slots
/// end and the issued units count in one step, so that no unit is offered twice between them.
pub static APPLY_UPDATE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local known = redis.call('HMGET', KEYS[1], 'era', 'state')
if not known[1] then return 0 end
for i = 10 + 2 * tonumber(ARGV[9]), #ARGV, 2 do
  if ARGV[i] == known[1] then redis.call('ZREM', KEYS[3], ARGV[i + 1]) end
end
if known[2] == 'building' then redis.call('HSET', KEYS[4], ARGV[1], cmsgpack.pack(ARGV))
else apply_update(ARGV, clock()) end
return 1",
    )
});

/// Writes member counts during a rebuild, and renews the builder's lease.
///
/// ARGV: the builder, its lease in microseconds, then (member, count). Replies with the time. 0: there is another builder.
pub static WRITE_MEMBERS: LazyLock<Script> = LazyLock::new(|| {
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

/// Ends a rebuild.
///
/// ARGV: the eight limits that the builder read, the builder, and 1 if the members are too many. Then the gate's maximum age in
/// milliseconds, and the time at which the read began.
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
write_limits(ARGV, 1)
redis.call('HSET', KEYS[1], 'state', 'ready', 'base', ARGV[1], 'seen', '0', 'blind', ARGV[10], 'confirmed', ARGV[12])
redis.call('HDEL', KEYS[1], 'builder', 'lease', 'since')
redis.call('HSET', KEYS[2], '', '0')
for _, packed in ipairs(redis.call('HVALS', KEYS[4])) do
  if packed ~= '' then apply_update(cmsgpack.unpack(packed), now) end
end
redis.call('DEL', KEYS[4])
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[11]) end
return 1",
    )
});

/// Frees the slots of refused claims.
///
/// ARGV: the eight limits on which the claims were refused, then their slots as (gate, name). The limits count from now on, although the
/// update of their commit may be late. Otherwise the slot would be offered again before the unit counts for which its claim was refused.
pub static APPLY_REFUSED: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local known = redis.call('HMGET', KEYS[1], 'era', 'state', 'version')
if known[2] == 'ready' and tonumber(ARGV[1]) > tonumber(known[3]) then
  write_limits(ARGV, 1)
  track_gap(clock())
end
for i = 9, #ARGV, 2 do
  if ARGV[i] == known[1] then redis.call('ZREM', KEYS[3], ARGV[i + 1]) end
end
return 1",
    )
});

/// Frees a slot. ARGV: the gate's name, the slot's name.
pub static FREE_SLOT: LazyLock<Script> = LazyLock::new(|| {
    script("if redis.call('HGET', KEYS[1], 'era') == ARGV[1] then return redis.call('ZREM', KEYS[3], ARGV[2]) end return 0")
});

/// Deletes the gate, so that the next caller rebuilds it. ARGV: the builder that the gate must have, or an empty text for any gate.
pub static CLEAR: LazyLock<Script> =
    LazyLock::new(|| script("if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'builder') ~= ARGV[1] then return 0 end clear() return 1"));

/// Returns the units available to new claims: none while there is a waitlist.
///
/// -1: unlimited. -2: the gate is missing, damaged or stale, so the next caller would rebuild or refresh it. ARGV: the maximum staleness in
/// microseconds.
pub static AVAILABLE_UNITS: LazyLock<Script> = LazyLock::new(|| {
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
