//! Authentication: access tokens, roles, passwords, cookies, and the limits on what callers may take.
//!
//! This crate stores no accounts and reads no table: password hashes and sessions belong to the service that owns accounts. Its state in
//! memory (verified tokens, revocations, counts of attempts) is bounded and can be rebuilt.

mod attempts;
pub mod cookie;
mod hs256;
mod known_addresses;
pub mod limits;
pub mod password;
mod password_gate;
mod revoked;
mod site;
mod token;
mod verified;
pub mod web_sessions;

pub use attempts::{LoginAttempts, PasswordAttempt};
pub use password_gate::{HashQueue, PasswordGate};
pub use token::TOKEN_LIFETIME;

use contracts::{Code, MemberId, Timestamp};
use http::{HeaderMap, header};
use revoked::Revocations;
use runtime::ports::Clock;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};
use token::AccessTokens;
use utoipa::ToSchema;
use uuid::Uuid;
use verified::VerifiedTokens;
use web::Problem;

/// Role of an account. Each role includes the rights of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Customer,
    Seller,
    Operator,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Customer, Role::Seller, Role::Operator];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Seller => "seller",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error for a text that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// The account that sent a request, from its access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub member_id: MemberId,
    pub role: Role,
    pub session_id: Uuid,
}

/// Issues and verifies access tokens. Cheap to clone; clones share their caches.
#[derive(Clone)]
pub struct Auth(Arc<AuthInner>);

struct AuthInner {
    tokens: AccessTokens,
    verified: VerifiedTokens,
    revoked: Revocations,
    clock: Arc<dyn Clock>,
}

impl Auth {
    pub fn new(secret: [u8; 32], clock: Arc<dyn Clock>) -> Auth {
        Auth(Arc::new(AuthInner {
            tokens: AccessTokens::new(&secret),
            verified: VerifiedTokens::new(),
            revoked: Revocations::default(),
            clock,
        }))
    }

    /// Issues an access token that is valid for [`TOKEN_LIFETIME`].
    pub fn issue(&self, member_id: MemberId, role: Role, session_id: Uuid, now: Timestamp) -> String {
        let stamp = self.0.revoked.stamp(now);
        self.0.tokens.issue(Caller { member_id, role, session_id }, now, stamp)
    }

    /// Refuses the tokens of this session from now on, until they expire. The caller must repeat the revocation after a restart.
    pub fn revoke_session(&self, session_id: Uuid, now: Timestamp) {
        self.0.revoked.revoke_session(session_id, now);
    }

    /// Refuses all tokens issued to this member until now. Later tokens are valid.
    pub fn revoke_member(&self, member_id: MemberId, now: Timestamp) {
        self.0.revoked.revoke_member(member_id, now);
    }

    /// The account of this token. `None`: invalid, expired or revoked.
    pub fn verify(&self, token: &str) -> Option<Caller> {
        let inner = &*self.0;
        let now = inner.clock.now();
        let claims = match inner.verified.get(token) {
            Some(claims) => claims,
            None => {
                let claims = inner.tokens.verify(token)?;
                // Caches only tokens that are valid now.
                if claims.is_current(now) {
                    inner.verified.insert(token, claims);
                }
                claims
            }
        };
        (claims.is_current(now) && !inner.revoked.is_revoked(&claims)).then_some(claims.caller)
    }

    /// The account of a request with these headers. `None`: no credentials. `Err`: bad credentials.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let refused = || Problem::new(Code::Unauthenticated, "The access token is not valid, or not any more.");
        if values.next().is_some() {
            return Err(refused());
        }
        let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        self.verify(token.trim_start_matches(' ')).map(Some).ok_or_else(refused)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use runtime::ports::{ManualClock, Stopwatch, new_id};
    use std::time::Duration;

    const START: Timestamp = Timestamp(1_795_132_800_000_000);

    fn auth() -> (Auth, ManualClock) {
        let clock = ManualClock::at(START);
        (Auth::new([7; 32], Arc::new(clock.clone())), clock)
    }

    fn member(number: u128) -> MemberId {
        MemberId(Uuid::from_u128(number))
    }

    // A3
    #[test]
    fn a_token_identifies_its_caller_until_it_expires() {
        let (auth, clock) = auth();
        let session_id = new_id();
        let token = auth.issue(member(1), Role::Seller, session_id, clock.now());
        let caller = Caller { member_id: member(1), role: Role::Seller, session_id };
        // Twice: the second answer comes from the cache.
        assert_eq!((auth.verify(&token), auth.verify(&token)), (Some(caller), Some(caller)));
        clock.advance(TOKEN_LIFETIME - Duration::from_secs(1));
        assert_eq!(auth.verify(&token), Some(caller));
        // row 26: no leeway, also for a cached token
        clock.advance(Duration::from_secs(1));
        assert_eq!(auth.verify(&token), None);
    }

    // row 28
    #[test]
    fn a_revoked_session_is_refused_at_once() {
        let (auth, clock) = auth();
        let (gone, kept) = (new_id(), new_id());
        let tokens = [gone, kept].map(|session| auth.issue(member(1), Role::Customer, session, clock.now()));
        assert!(tokens.iter().all(|token| auth.verify(token).is_some()));
        auth.revoke_session(gone, clock.now());
        assert_eq!(tokens.map(|token| auth.verify(&token).is_some()), [false, true]);
    }

    // row 28
    #[test]
    fn a_revoked_member_must_sign_in_again() {
        let (auth, clock) = auth();
        let old = auth.issue(member(1), Role::Customer, new_id(), clock.now());
        let other = auth.issue(member(2), Role::Customer, new_id(), clock.now());
        assert!(auth.verify(&old).is_some());
        auth.revoke_member(member(1), clock.now());
        // At the same instant, tokens from before the revocation are refused and later ones are valid.
        let new = auth.issue(member(1), Role::Customer, new_id(), clock.now());
        assert_eq!([old, new, other].map(|token| auth.verify(&token).is_some()), [false, true, true]);
    }

    // row 28
    #[test]
    fn a_revocation_reloaded_after_a_restart_holds() {
        let (before, clock) = auth();
        let old = before.issue(member(1), Role::Customer, new_id(), clock.now());
        clock.advance(Duration::from_secs(60));
        let revoked_at = clock.now();
        let same = before.issue(member(1), Role::Customer, new_id(), revoked_at);
        clock.advance(Duration::from_secs(60));
        let new = before.issue(member(1), Role::Customer, new_id(), clock.now());
        let after = Auth::new([7; 32], Arc::new(clock.clone()));
        assert!(after.verify(&old).is_some());
        after.revoke_member(member(1), revoked_at);
        // A token of the same instant is refused, because the order is unknown.
        assert_eq!([old, same, new].map(|token| after.verify(&token).is_some()), [false, false, true]);
    }

    // row 23
    #[test]
    fn only_a_single_bearer_token_is_accepted() {
        let (auth, clock) = auth();
        let token = auth.issue(member(1), Role::Customer, new_id(), clock.now());
        let ask = |values: &[String]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header value"));
            }
            auth.caller(&headers).map(|caller| caller.is_some()).map_err(|problem| problem.code())
        };
        assert_eq!(ask(&[]), Ok(false));
        assert_eq!(ask(&[format!("Bearer {token}")]), Ok(true));
        assert_eq!(ask(&[format!("bearer  {token}")]), Ok(true));
        let twice = vec![format!("Bearer {token}"); 2];
        for wrong in
            [format!("Basic {token}"), token.clone(), "Bearer".into(), "Bearer ".into(), "Bearer x".into(), format!("Bearer {token} x")]
        {
            assert_eq!(ask(std::slice::from_ref(&wrong)), Err(Code::Unauthenticated), "{wrong}");
        }
        assert_eq!(ask(&twice), Err(Code::Unauthenticated));
        assert_eq!(ask(&[format!("Bearer {}", "x".repeat(100_000))]), Err(Code::Unauthenticated));
    }

    #[test]
    fn roles_survive_a_round_trip_as_text() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).expect("it serializes"), format!("\"{role}\""));
        }
        assert_eq!("admin".parse::<Role>(), Err(UnknownRole));
    }

    /// Guards a performance property: a cached token must not cost a signature check.
    #[test]
    fn a_cached_token_is_much_cheaper_than_a_new_one() {
        let (auth, clock) = auth();
        let tokens: Vec<String> = (0..200).map(|number| auth.issue(member(number), Role::Customer, new_id(), clock.now())).collect();
        let round = || {
            let watch = Stopwatch::start();
            assert!(tokens.iter().all(|token| auth.verify(token).is_some()));
            watch.elapsed()
        };
        let (first, second) = (round(), (0..5).map(|_| round()).min().expect("five rounds"));
        assert!(second * 2 < first, "{second:?} against {first:?}");
    }
}
