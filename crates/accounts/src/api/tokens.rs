//! Tokens in requests and answers: the pair that sign-in and refresh return, and the text form of a refresh token.

use crate::{
    Accounts,
    model::{Member, SecretDigest, Session},
};
use axum::{
    http::{HeaderValue, header::CACHE_CONTROL},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::Timestamp;
use kit::{auth::TOKEN_LIFETIME, ports};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// The tokens of a session. The refresh token works once: each refresh returns the next one.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub struct TokenPair {
    /// A JWT for the `Authorization` header.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds until the access token expires.
    pub expires_in: u64,
    pub refresh_token: String,
}

impl TokenPair {
    pub fn new(accounts: &Accounts, member: &Member, session: &Session, refresh: &RefreshSecret, now: Timestamp) -> TokenPair {
        TokenPair {
            access_token: accounts.kit.auth.issue(member.id, member.role, session.id, now),
            token_type: "Bearer",
            expires_in: TOKEN_LIFETIME.as_secs(),
            refresh_token: refresh.to_text(),
        }
    }
}

/// The secret of a refresh token. The database holds only its digest.
pub struct RefreshSecret([u8; 32]);

impl RefreshSecret {
    pub fn generate() -> RefreshSecret {
        RefreshSecret(ports::random_bytes())
    }

    pub fn parse(text: &str) -> Option<RefreshSecret> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(RefreshSecret)
    }

    pub fn digest(&self) -> SecretDigest {
        Sha256::digest(self.0).into()
    }

    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// Forbids proxies and the client to cache an answer with tokens.
pub fn no_store(mut answer: Response) -> Response {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
