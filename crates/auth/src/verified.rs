//! Cache of tokens with verified signatures. A fixed table: each token has one slot, and a later token with the same slot replaces it.

use super::token::TokenClaims;
use parking_lot::Mutex;
use std::hash::{BuildHasher, RandomState};

/// Slots of the table: enough for the shoppers of a busy hour. A full table uses some 16 MB.
const SLOTS: usize = 1 << 15;
/// Bytes at the end of a token that are hashed to find its slot: the signature, which is as good as random.
const TAIL_BYTES: usize = 43;

pub(super) struct VerifiedTokens {
    slots: Box<[Mutex<Option<VerifiedEntry>>]>,
    /// Keyed, so that an attacker cannot choose tokens that share a slot.
    hasher: RandomState,
}

struct VerifiedEntry {
    token: Box<str>,
    claims: TokenClaims,
}

impl VerifiedTokens {
    pub fn new() -> VerifiedTokens {
        VerifiedTokens { slots: (0..SLOTS).map(|_| Mutex::new(None)).collect(), hasher: RandomState::new() }
    }

    pub fn get(&self, token: &str) -> Option<TokenClaims> {
        let slot = self.slot(token).lock();
        slot.as_ref().filter(|entry| *entry.token == *token).map(|entry| entry.claims)
    }

    pub fn insert(&self, token: &str, claims: TokenClaims) {
        *self.slot(token).lock() = Some(VerifiedEntry { token: token.into(), claims });
    }

    fn slot(&self, token: &str) -> &Mutex<Option<VerifiedEntry>> {
        let tail = &token.as_bytes()[token.len().saturating_sub(TAIL_BYTES)..];
        let hash = self.hasher.hash_one(tail);
        &self.slots[hash as usize % SLOTS]
    }
}
