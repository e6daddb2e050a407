//! Passwords of requests: hashed and checked a few at a time, outside the writer, with a rate limit on guesses.

use crate::{
    Accounts,
    model::{Member, SecretDigest},
};
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

    /// Returns the member if the password is right and the account active. `account` is the address as typed, known or not.
    ///
    /// Every refusal is the same and costs one hash, so that the answer does not reveal which accounts exist.
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
                // Rejected before the password was checked, so this was no guess.
                self.attempts.not_verified(account, address).await;
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

    /// The form in which a reserved address is stored: only a process with the server's secret can compare an address with it.
    pub(crate) fn address_hash(&self, normalized: &str) -> SecretDigest {
        Sha256::digest(self.kit.cursors.encode("accounts.address", &normalized)).into()
    }

    /// Binds the stored hash of a request that carries a password to the server's secret.
    /// With a plain digest, a reader of the database could try passwords millions of times faster than with their argon2 hash.
    pub(crate) fn protect_request_hash(&self, key: Option<IdempotencyKey>) -> Option<IdempotencyKey> {
        key.map(|mut key| {
            let signed = self.kit.cursors.encode("accounts.request", &key.request_hash);
            key.request_hash = Sha256::digest(signed).into();
            key
        })
    }
}

/// Owner of an idempotency key of a caller who is not signed in: the e-mail address. So two strangers may use the same key.
pub fn anonymous_key_scope(normalized_email: &str) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(normalized_email).into();
    let mut scope = [0; 16];
    scope.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(scope)
}
