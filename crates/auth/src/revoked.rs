//! Revocations of unexpired tokens. Kept in memory until the tokens expire; the accounts service has them on disk.

use super::token::{TOKEN_LIFETIME, TokenClaims};
use contracts::{MemberId, Timestamp};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};
use uuid::Uuid;

/// Minimum time between removals of expired revocations, so that their cost is negligible.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Revocations {
    lists: RwLock<RevocationLists>,
    /// True once a revocation was added. Until then, which is the usual case, requests skip the lock.
    has_any: AtomicBool,
    last_stamp: AtomicI64,
}

#[derive(Default)]
struct RevocationLists {
    sessions: HashMap<Uuid, Revocation>,
    members: HashMap<MemberId, Revocation>,
    pruned: Timestamp,
}

#[derive(Clone, Copy)]
struct Revocation {
    stamp: i64,
    until: Timestamp,
}

impl Revocations {
    /// Returns a number close to the time and above all earlier ones. It orders tokens and revocations of the same instant.
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

    pub fn is_revoked(&self, claims: &TokenClaims) -> bool {
        if !self.has_any.load(Ordering::Acquire) {
            return false;
        }
        let lists = self.read();
        lists.sessions.contains_key(&claims.caller.session_id)
            || lists.members.get(&claims.caller.member_id).is_some_and(|revocation| claims.stamp <= revocation.stamp)
    }

    fn revocation(&self, now: Timestamp) -> Revocation {
        Revocation { stamp: self.stamp(now), until: now.after(TOKEN_LIFETIME) }
    }

    fn write(&self) -> RwLockWriteGuard<'_, RevocationLists> {
        let lists = self.lists.write();
        // Set under the lock, so that a reader who sees the flag waits for the revocation.
        self.has_any.store(true, Ordering::Release);
        lists
    }

    fn read(&self) -> RwLockReadGuard<'_, RevocationLists> {
        self.lists.read()
    }
}

fn keep_latest<K: Hash + Eq>(list: &mut HashMap<K, Revocation>, key: K, new: Revocation) {
    let kept = list.entry(key).or_insert(new);
    if kept.stamp < new.stamp {
        *kept = new;
    }
}

impl RevocationLists {
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
        let revoked = Revocations::default();
        assert_eq!([5, 5, 3, 100, 100].map(|at| revoked.stamp(Timestamp(at))), [5, 6, 7, 100, 101]);
    }

    #[test]
    fn revocations_are_removed_once_their_tokens_expired() {
        let revoked = Revocations::default();
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
