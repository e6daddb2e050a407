//! Tokens as they travel: the pair that sign-in and refresh answer with, and the text form of a refresh token.

use crate::{
    Accounts,
    model::{Digest, Member, Session},
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

/// What a client keeps. The refresh token is good once: each refresh answers with the next one.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    /// A JWT for the `Authorization` header.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    pub refresh_token: String,
}

impl Tokens {
    pub fn new(accounts: &Accounts, member: &Member, session: &Session, refresh: &RefreshToken, now: Timestamp) -> Tokens {
        Tokens {
            access_token: accounts.kit.auth.issue(member.id, member.role, session.id, now),
            token_type: "Bearer",
            expires_in: TOKEN_LIFETIME.as_secs(),
            refresh_token: refresh.to_text(),
        }
    }
}

/// The secret of one refresh token. Only its digest is ever stored.
pub struct RefreshToken([u8; 32]);

impl RefreshToken {
    pub fn fresh() -> RefreshToken {
        RefreshToken(ports::random_bytes())
    }

    pub fn parse(text: &str) -> Option<RefreshToken> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(RefreshToken)
    }

    pub fn digest(&self) -> Digest {
        Sha256::digest(self.0).into()
    }

    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// Tokens must not be kept by anything between us and the client.
pub fn never_stored(mut answer: Response) -> Response {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
