//! Tokens whose signature was checked already. A fixed table: a token has one place, and whoever comes there later takes it.

use super::token::Claims;
use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

/// Places: enough for the shoppers of a busy hour. Full, the table holds some 16 MB.
const PLACES: usize = 1 << 15;
/// The signature is the token's end, and as good as random: hashing it alone finds the place.
const TAIL: usize = 43;

pub(super) struct Verified {
    places: Box<[Mutex<Option<Entry>>]>,
    /// Keyed, so that nobody can choose tokens that share a place.
    hasher: RandomState,
}

struct Entry {
    token: Box<str>,
    claims: Claims,
}

impl Verified {
    pub fn new() -> Verified {
        Verified { places: (0..PLACES).map(|_| Mutex::new(None)).collect(), hasher: RandomState::new() }
    }

    pub fn get(&self, token: &str) -> Option<Claims> {
        let place = self.place(token).lock().unwrap_or_else(PoisonError::into_inner);
        place.as_ref().filter(|entry| *entry.token == *token).map(|entry| entry.claims)
    }

    pub fn insert(&self, token: &str, claims: Claims) {
        *self.place(token).lock().unwrap_or_else(PoisonError::into_inner) = Some(Entry { token: token.into(), claims });
    }

    fn place(&self, token: &str) -> &Mutex<Option<Entry>> {
        let tail = &token.as_bytes()[token.len().saturating_sub(TAIL)..];
        let hash = self.hasher.hash_one(tail);
        &self.places[hash as usize % PLACES]
    }
}
