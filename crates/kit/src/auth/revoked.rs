//! What was revoked before it expired. In memory, for as long as a token could outlive it; the accounts service has it on disk.

use super::token::{Claims, TOKEN_LIFETIME};
use contracts::{MemberId, Timestamp};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// How often expired revocations are dropped: seldom enough to cost nothing.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Revoked {
    lists: RwLock<Lists>,
    /// Usually there are none, and then no request needs the lock.
    any: AtomicBool,
    last_stamp: AtomicI64,
}

#[derive(Default)]
struct Lists {
    sessions: HashMap<Uuid, Revocation>,
    members: HashMap<MemberId, Revocation>,
    pruned: Timestamp,
}

#[derive(Clone, Copy)]
struct Revocation {
    stamp: i64,
    until: Timestamp,
}

impl Revoked {
    /// A number that is near the time and above all that were given before: issues and revocations of one instant keep their order.
    pub fn stamp(&self, now: Timestamp) -> i64 {
        let next = |last: i64| now.0.max(last.saturating_add(1));
        let last = self.last_stamp.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }

    pub fn revoke_session(&self, session_id: Uuid, now: Timestamp) {
        let revocation = self.revocation(now);
        let mut lists = self.write();
        lists.prune(now);
        keep_latest(&mut lists.sessions, session_id, revocation);
    }

    pub fn revoke_member(&self, member_id: MemberId, now: Timestamp) {
        let revocation = self.revocation(now);
        let mut lists = self.write();
        lists.prune(now);
        keep_latest(&mut lists.members, member_id, revocation);
    }

    pub fn is_revoked(&self, claims: &Claims) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let lists = self.read();
        lists.sessions.contains_key(&claims.caller.session_id)
            || lists.members.get(&claims.caller.member_id).is_some_and(|revocation| claims.stamp <= revocation.stamp)
    }

    fn revocation(&self, now: Timestamp) -> Revocation {
        Revocation { stamp: self.stamp(now), until: now.after(TOKEN_LIFETIME) }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lists> {
        let lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever sees the flag waits for what is about to be written.
        self.any.store(true, Ordering::Release);
        lists
    }

    fn read(&self) -> RwLockReadGuard<'_, Lists> {
        self.lists.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_latest<K: Hash + Eq>(list: &mut HashMap<K, Revocation>, key: K, new: Revocation) {
    let kept = list.entry(key).or_insert(new);
    if kept.stamp < new.stamp {
        *kept = new;
    }
}

impl Lists {
    fn prune(&mut self, now: Timestamp) {
        if now.since(self.pruned) >= PRUNE_EVERY {
            self.pruned = now;
            self.sessions.retain(|_, revocation| revocation.until > now);
            self.members.retain(|_, revocation| revocation.until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_even_when_the_clock_does_not() {
        let revoked = Revoked::default();
        assert_eq!([5, 5, 3, 100, 100].map(|at| revoked.stamp(Timestamp(at))), [5, 6, 7, 100, 101]);
    }

    #[test]
    fn what_no_token_outlives_is_forgotten() {
        let revoked = Revoked::default();
        let start = Timestamp(1_795_132_800_000_000);
        for number in 0..100 {
            revoked.revoke_session(Uuid::from_u128(number), start);
            revoked.revoke_member(MemberId(Uuid::from_u128(number)), start);
        }
        revoked.revoke_session(Uuid::from_u128(200), start.after(TOKEN_LIFETIME / 2));
        revoked.revoke_member(MemberId(Uuid::from_u128(200)), start.after(TOKEN_LIFETIME));
        let lists = revoked.read();
        assert_eq!((lists.sessions.len(), lists.members.len()), (1, 1));
    }
}
