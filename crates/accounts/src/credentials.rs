//! Passwords of requests: hashed and checked a few at a time, outside the writer, with a rate limit on guesses.

use crate::{
    Accounts,
    model::{Member, SecretDigest},
};
use contracts::Code;
use kit::{
    auth::{HashQueue, PasswordAttempt, password},
    http::{Peer, Problem},
    idempotency::IdempotencyKey,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

impl Accounts {
    /// Hashes the password of a new account, in the queue behind sign-ins.
    pub(crate) async fn hash_new(&self, password: &str, peer: Peer) -> Result<String, Problem> {
        password::hash(&self.passwords, HashQueue::SignUp, peer.source(), password).await
    }

    /// Hashes the new password of a member.
    pub(crate) async fn hash_changed(&self, password: &str, peer: Peer) -> Result<String, Problem> {
        password::hash(&self.passwords, HashQueue::SignIn, peer.source(), password).await
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
        let attempt = self.attempts.begin(account, peer.source()).await?;
        self.verify(attempt, peer, member, password).await
    }

    /// The same for a signed-in member who confirms the current password. Wrong ones do not count for signing in.
    pub(crate) async fn confirm_password(&self, member: Member, peer: Peer, password: &str) -> Result<Member, Problem> {
        let attempt = self.attempts.begin_confirmation(member.id, peer.source()).await?;
        self.verify(attempt, peer, Some(member), password).await
    }

    async fn verify(&self, attempt: PasswordAttempt, peer: Peer, member: Option<Member>, password: &str) -> Result<Member, Problem> {
        let address = peer.source();
        let checked = match member.as_ref().filter(|member| member.has_usable_password()) {
            Some(member) => password::verify(&self.passwords, address, password, &member.password_hash).await,
            None => password::verify_dummy(&self.passwords, address, password).await.map(|()| false),
        };
        let right = match checked {
            Ok(right) => right,
            Err(too_busy) => {
                // Rejected before the password was checked, so this was no guess.
                attempt.not_verified().await;
                return Err(too_busy);
            }
        };
        match member {
            Some(member) if right && member.is_active() => {
                attempt.succeeded().await?;
                Ok(member)
            }
            _ => {
                attempt.failed().await;
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
