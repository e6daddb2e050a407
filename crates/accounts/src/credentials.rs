//! Passwords at the door: hashed and checked a few at a time, away from the writer, with a brake on guessing.

use crate::{Accounts, model::Member};
use contracts::Code;
use kit::{
    auth::password,
    http::{Peer, Problem},
    idempotency::IdempotencyKey,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

impl Accounts {
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Problem> {
        password::hash(&self.passwords, password).await
    }

    /// The member, if this is its password and it may come in. `account` is the address that was typed, known or not.
    ///
    /// Every refusal is the same and takes one hash, whatever the reason: the answer must not tell which accounts exist.
    pub(crate) async fn check_password(
        &self,
        account: &str,
        peer: Peer,
        member: Option<Member>,
        password: &str,
    ) -> Result<Member, Problem> {
        let address = peer.source();
        self.attempts.begin(account, address).await?;
        let checked = match member.as_ref().filter(|member| member.has_usable_password()) {
            Some(member) => password::verify(&self.passwords, password, &member.password_hash).await,
            None => password::verify_dummy(&self.passwords, password).await.map(|()| false),
        };
        let right = match checked {
            Ok(right) => right,
            Err(too_busy) => {
                // Sent away before the password was looked at: that was no guess.
                self.attempts.not_looked_at(account, address).await;
                return Err(too_busy);
            }
        };
        match member {
            Some(member) if right && member.is_active() => {
                self.attempts.succeeded(account, address).await;
                Ok(member)
            }
            _ => {
                metrics::counter!("onrush_accounts_bad_credentials_total").increment(1);
                Err(Code::BadCredentials.into())
            }
        }
    }

    /// The key of a request that carries a password. What is stored of such a request is bound to the server's secret: a plain digest
    /// would let whoever reads the database try passwords millions of times faster than their argon2 hash does.
    pub(crate) fn sealed(&self, key: Option<IdempotencyKey>) -> Option<IdempotencyKey> {
        key.map(|mut key| {
            let signed = self.kit.cursors.encode("accounts.request", &key.request_hash);
            key.request_hash = Sha256::digest(signed).into();
            key
        })
    }
}

/// Whose an idempotency key is when nobody is signed in: the address's, so that strangers who choose the same key do not meet.
pub fn scope_of(normalized_email: &str) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(normalized_email).into();
    let mut scope = [0; 16];
    scope.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(scope)
}
